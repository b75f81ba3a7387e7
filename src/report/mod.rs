//! `report.html`: one page about reproduced tables and searches, without a network, without a
//! script, in light and in dark.
//!
//! A section holds what is shown as plain data; the page's template turns it into HTML. Nothing is
//! computed here that is not in the runs' own files.

pub mod chart;
mod search;
mod table;

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::files::{read_text, write_atomic};
use crate::reproduce::Results;

/// The ending has every text escaped.
const NAME: &str = "page.html";

/// What is told about one run.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Section {
    /// A reproduced table.
    Table(Box<table::View>),
    /// A search.
    Search(Box<search::View>),
}

/// A page of sections.
#[derive(Debug)]
pub struct Page {
    sections: Vec<Section>,
}

/// One thing by its name.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    value: String,
}

impl Section {
    /// What `run` holds: a folder that `reproduce` made, or the run directory of a search.
    pub fn open(run: &Path) -> Result<Self> {
        if run.join("journal.jsonl").exists() {
            return Ok(Self::Search(Box::new(search::View::open(run)?)));
        }
        let path = run.join("results.json");
        if !path.exists() {
            let what = match run.join("cells").is_dir() {
                true => "is not finished; let `reproduce` go on with it",
                false => "wanted a folder that `reproduce` made, or a run directory of `search`",
            };
            return Err(Error::input(run, what));
        }
        let results: Results = serde_json::from_str(&read_text(&path)?).map_err(|error| {
            Error::input(&path, format!("not the results of `reproduce`: {error}"))
        })?;
        Self::of_table(&results)
    }

    /// A reproduced table.
    pub fn of_table(results: &Results) -> Result<Self> {
        Ok(Self::Table(Box::new(table::View::of(results)?)))
    }

    fn title(&self) -> &str {
        match self {
            Self::Table(view) => view.title(),
            Self::Search(view) => view.title(),
        }
    }
}

impl Page {
    /// A page of these sections.
    pub fn of(sections: Vec<Section>) -> Self {
        Self { sections }
    }

    /// Writes `report.html` into the folder `out`, which is made where it is not there.
    pub fn write(&self, out: &Path) -> Result<()> {
        std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
        let html = self.html();
        write_atomic(&out.join("report.html"), |file| file.write_all(html.as_bytes()))
    }

    /// The page.
    pub fn html(&self) -> String {
        let title = match &self.sections[..] {
            [section] => section.title(),
            _ => "Model Swarms",
        };
        let sections = minijinja::Value::from(Serde(&self.sections));
        let page = environment().and_then(|environment| {
            environment.get_template(NAME)?.render(context! { title, sections })
        });
        page.expect("the template is part of the program and fits its data")
    }
}

fn environment() -> std::result::Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.add_template(NAME, include_str!("page.html"))?;
    Ok(environment)
}

/// A JSON object's fields by name; nested ones are written as JSON.
fn entries(value: &serde_json::Value) -> Vec<Entry> {
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(name, value)| Entry { name: name.clone(), value: plain(value) }).collect()
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}
