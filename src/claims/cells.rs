//! A table of cells with names: what claims are computed from, be it printed or measured.
//!
//! The paper's own tables (`expected/paper`) are built into the program. A printed cell is known up
//! to its rounding; a whole number is a count and exact.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::{Spanned, Value};

use super::range::Range;
use crate::error::{Error, Result};

/// Tables by their names: "table01", "figure02".
pub type Tables = BTreeMap<String, Cells>;

/// One number of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// As a reader sees it.
    pub text: String,
    /// What it is, and could be.
    pub range: Range,
}

/// A table: rows of cells, some of which may be missing ("/").
#[derive(Clone, Debug, PartialEq)]
pub struct Cells {
    rows: Vec<String>,
    columns: Vec<String>,
    values: Vec<Vec<Option<Cell>>>, // (n_rows, n_columns)
}

macro_rules! built_in {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../expected/paper/", $name, ".toml")))),*]
    };
}

const PRINTED: &[(&str, &str)] = built_in![
    "figure02" "table01" "table02" "table03" "table04" "table06" "table07" "table08" "table09"
    "table10" "table11" "table12"
];

/// The paper's printed tables.
pub fn printed() -> Result<Tables> {
    let read = |(name, text): &(&str, &str)| {
        let path = format!("expected/paper/{name}.toml");
        Ok((name.to_string(), Cells::from_toml(Path::new(&path), text)?))
    };
    PRINTED.iter().map(read).collect()
}

impl Cells {
    /// A table of `values[row][column]`.
    ///
    /// # Panics
    /// If the values are not one for each row and column.
    pub fn new(rows: Vec<String>, columns: Vec<String>, values: Vec<Vec<Option<Cell>>>) -> Self {
        assert_eq!(values.len(), rows.len(), "one list of values for each row");
        assert!(values.iter().all(|row| row.len() == columns.len()), "one value for each column");
        Self { rows, columns, values }
    }

    /// Reads a table in the form of `expected/paper`; `path` names it in errors.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self> {
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| Error::place(text, span.start));
            let place = place.unwrap_or_default();
            Error::input(path, format!("{place}not a table: {}", error.message()))
        })?;
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        for row in raw.row {
            if row.values.len() != raw.columns.len() {
                let (found, wanted) = (row.values.len(), raw.columns.len());
                let what = format!("row {:?} has {found} values, wanted {wanted}", row.name);
                return Err(Error::input(path, what));
            }
            let cells = row.values.iter().map(|value| cell(text, value));
            let cells: std::result::Result<_, String> = cells.collect();
            values.push(cells.map_err(|what| Error::input(path, what))?);
            rows.push(row.name);
        }
        Ok(Self::new(rows, raw.columns, values))
    }

    /// The rows' names.
    pub fn rows(&self) -> &[String] {
        &self.rows
    }

    /// The cell at a row and a column, or `None` where it is missing ("/"); an error where there is
    /// no such row or column.
    pub fn get(&self, row: &str, column: &str) -> std::result::Result<Option<&Cell>, String> {
        let place = |names: &[String], name: &str, what| {
            let at = names.iter().position(|known| known == name);
            at.ok_or_else(|| format!("no {what} {name:?} in the table"))
        };
        let row = place(&self.rows, row, "row")?;
        Ok(self.values[row][place(&self.columns, column, "column")?].as_ref())
    }

    /// Rows for columns, and columns for rows.
    pub fn transposed(&self) -> Self {
        let column = |idx: usize| self.values.iter().map(|row| row[idx].clone()).collect();
        Self {
            rows: self.columns.clone(),
            columns: self.rows.clone(),
            values: (0..self.columns.len()).map(column).collect(),
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    columns: Vec<String>,
    row: Vec<RawRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRow {
    name: String,
    #[serde(rename = "line")]
    _line: IgnoredAny,
    values: Vec<Spanned<Value>>,
}

/// A number with as many digits as stand in `text`, or "/".
fn cell(text: &str, raw: &Spanned<Value>) -> std::result::Result<Option<Cell>, String> {
    let at = Error::place(text, raw.span().start);
    let literal = text.get(raw.span()).unwrap_or_default();
    let range = match raw.get_ref() {
        Value::String(none) if none == "/" => return Ok(None),
        Value::Integer(count) if count.unsigned_abs() < 1_000_000_000 => {
            Range::exact(*count as f64)
        }
        Value::Float(value) if value.abs() < 1e9 && !literal.contains(['e', 'E']) => {
            let digits = literal.split_once('.').map_or(0, |(_, digits)| digits.len());
            Range::printed(*value, digits)
        }
        other => return Err(format!("{at}the value is {other}, wanted a number or \"/\"")),
    };
    Ok(Some(Cell { text: literal.to_string(), range }))
}
