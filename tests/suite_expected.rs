//! The paper's printed numbers: every file has its form, and the sentences follow from the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed {
    table: Option<u32>,
    figure: Option<u32>,
    title: String,
    section: String,
    lines: [u32; 2],
    columns: Vec<String>,
    row: Vec<Row>,
    #[serde(default)]
    claim: Vec<Claim>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    line: u32,
    values: Vec<toml::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    name: String,
    says: String,
    value: toml::Spanned<f64>,
    line: u32,
}

const FILES: [&str; 12] = [
    "figure02", "table01", "table02", "table03", "table04", "table06", "table07", "table08",
    "table09", "table10", "table11", "table12",
];

/// Claims that do not follow from the printed tables: what the tables give instead.
const NOT_REPRODUCED: [(&str, &str, f64); 6] = [
    // 48.14; the mean of the four rounded metrics is 48.15.
    ("figure02", "mean C-surge", 48.1),
    // The best baseline on Hearsay is the best single expert (.638), not Dare-ties (.631).
    ("table02", "hearsay-gain", 10.0),
    ("table03", "largest-gain", 14.5),
    ("table04", "factuality-gain", 23.4),
    // 27.27 cut off instead of rounded.
    ("table11", "gain-2b-test", 27.3),
    ("table11", "gain-7b-dev", 35.2),
];

fn read(name: &str) -> (Printed, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("expected/paper");
    let text = std::fs::read_to_string(folder.join(format!("{name}.toml"))).unwrap();
    (toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}")), text)
}

impl Printed {
    /// The number in a cell; `None` for "/".
    fn get(&self, row: &str, column: &str) -> Option<f64> {
        let row = self.row.iter().find(|candidate| candidate.name == row);
        let row = row.unwrap_or_else(|| panic!("{}: no such row", self.title));
        let column = self.columns.iter().position(|candidate| candidate == column);
        number(&row.values[column.unwrap_or_else(|| panic!("{}: no such column", self.title))])
    }

    /// Ours over the best other row, in percent above it.
    fn gain(&self, column: &str) -> f64 {
        let others = self.row.iter().filter(|row| row.name != "Model Swarms");
        let best = others.filter_map(|row| self.get(&row.name, column)).fold(f64::MIN, f64::max);
        percent(self.get("Model Swarms", column).unwrap() / best)
    }

    fn mean_gain(&self, columns: &[&String]) -> f64 {
        mean(columns.iter().map(|column| self.gain(column)))
    }

    /// (C-surge, C-emerge) of a matrix: rows pre, columns post, from all correct to all wrong.
    fn surge_and_emerge(&self, dataset: &str) -> (f64, f64) {
        let levels = ["all", ">half", "<half", "none"];
        let of = |pre: usize, post: usize| {
            self.get(&format!("{dataset}: {}", levels[pre]), levels[post]).unwrap()
        };
        let all: f64 = (0..16).map(|cell| of(cell / 4, cell % 4)).sum();
        let better: f64 = (0..16).filter(|c| c % 4 < c / 4).map(|c| of(c / 4, c % 4)).sum();
        let solved: f64 = (0..3).map(|post| of(3, post)).sum();
        (better / all, solved / (solved + of(3, 3)))
    }
}

fn number(value: &toml::Value) -> Option<f64> {
    match value {
        toml::Value::Float(value) => Some(*value),
        toml::Value::Integer(value) => Some(*value as f64),
        toml::Value::String(text) if text == "/" => None,
        other => panic!("{other} is neither a number nor \"/\""),
    }
}

fn percent(ratio: f64) -> f64 {
    100.0 * (ratio - 1.0)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

#[test]
fn every_file_has_its_form() {
    // Broken: a row that misses a value shifts all numbers after it, and nobody sees it.
    for name in FILES {
        let (printed, _) = read(name);
        let number = match (printed.table, printed.figure) {
            (Some(number), None) => format!("table{number:02}"),
            (None, Some(number)) => format!("figure{number:02}"),
            _ => panic!("{name}: wanted a table or a figure"),
        };
        assert_eq!(number, name);
        assert!(!printed.title.is_empty() && !printed.section.is_empty(), "{name}");
        let columns: BTreeSet<_> = printed.columns.iter().collect();
        assert_eq!(columns.len(), printed.columns.len(), "{name}: a column twice");
        let rows: BTreeSet<_> = printed.row.iter().map(|row| &row.name).collect();
        assert_eq!(rows.len(), printed.row.len(), "{name}: a row twice");
        for row in &printed.row {
            assert_eq!(row.values.len(), columns.len(), "{name}: {}", row.name);
            row.values.iter().for_each(|value| assert!(number_is_sane(value), "{name}: {value}"));
            let [first, last] = printed.lines;
            assert!((first..=last).contains(&row.line), "{name}: {}", row.name);
        }
        assert!(printed.claim.iter().all(|claim| claim.line > 0 && !claim.says.is_empty()));
    }
    let known = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("expected/paper"));
    let n_toml = known.unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|extension| extension == "toml")
            && path.file_stem().is_some_and(|stem| stem != "claims")
    });
    assert_eq!(n_toml.count(), FILES.len(), "a file that no test reads");
}

fn number_is_sane(value: &toml::Value) -> bool {
    number(value).is_none_or(|value| (-1.0..=2000.0).contains(&value))
}

#[test]
fn the_sentences_follow_from_the_tables() {
    // Broken: a digit was copied wrongly, here or in a claim.
    for name in FILES {
        let (printed, text) = read(name);
        for claim in &printed.claim {
            let computed = compute(name, &printed, &claim.name);
            let literal = &text[claim.value.span()];
            let digits = literal.split_once('.').map_or(0, |(_, digits)| digits.len());
            let rounded = |value: f64| format!("{value:.digits$}");
            let exception = NOT_REPRODUCED
                .iter()
                .find(|(file, claim_name, _)| (*file, *claim_name) == (name, &claim.name));
            let wanted = exception.map_or(*claim.value.get_ref(), |(_, _, value)| *value);
            println!("{name} {}: printed {literal}, computed {computed:.4}", claim.name);
            assert_eq!(rounded(computed), rounded(wanted), "{name}: {}", claim.name);
            let agrees = rounded(computed) == rounded(*claim.value.get_ref());
            assert_eq!(agrees, exception.is_none(), "{name}: {}", claim.name);
        }
    }
}

/// What a claim says, computed from its table.
fn compute(file: &str, printed: &Printed, claim: &str) -> f64 {
    let tests: Vec<&String> = printed.columns.iter().filter(|c| c.ends_with(" test")).collect();
    let all: Vec<&String> = printed.columns.iter().collect();
    let ratios = |after: &str, before: &str| {
        mean(printed.row.iter().map(|row| {
            percent(
                printed.get(&row.name, after).unwrap() / printed.get(&row.name, before).unwrap(),
            )
        }))
    };
    match (file, claim) {
        ("table01" | "table03", "mean-gain") => printed.mean_gain(&tests),
        ("table01", "largest-gain") => tests.iter().map(|c| printed.gain(c)).fold(0.0, f64::max),
        ("table01", "knowledge-gain") => printed.mean_gain(&tests[..3]),
        ("table01", "reasoning-gain") => printed.mean_gain(&tests[3..6]),
        ("table01", "safety-gain") => printed.mean_gain(&tests[6..]),
        ("table01", "second-places") => n_dynamic_seconds(printed) as f64,
        ("table02", "mean-gain") => printed.mean_gain(&all),
        ("table02", "hearsay-gain") => printed.gain("Hearsay"),
        ("table02", "citation-gain") => printed.gain("Cite."),
        ("table03", "largest-gain") => all.iter().map(|c| printed.gain(c)).fold(0.0, f64::max),
        ("table04", "judge-gain") => ratios("Judge post", "Judge pre"),
        ("table04", "factuality-gain") => ratios("Factuality post", "Factuality pre"),
        ("table06", "mean-drop") => mean(all.iter().map(|column| {
            let of = |row| printed.get(row, column).unwrap();
            -percent(of("w/o 1 & 2 & 3") / of("Full"))
        })),
        ("table11", _) => {
            let (size, split) = claim.strip_prefix("gain-").unwrap().split_once('-').unwrap();
            let size = size.to_uppercase();
            let of = |when| printed.get(&format!("{when}-swarm {size}"), split).unwrap();
            percent(of("Post") / of("Pre"))
        }
        ("figure02", _) => {
            let (dataset, metric) = claim.split_once(' ').unwrap();
            let datasets = ["MMLU", "MMLU-pro", "HellaSwag", "K-Crosswords"];
            let of = |dataset| match (printed.surge_and_emerge(dataset), metric) {
                ((surge, _), "C-surge") => surge,
                ((_, emerge), "C-emerge") => emerge,
                _ => panic!("no such metric: {metric}"),
            };
            if dataset == "mean" { 100.0 * mean(datasets.into_iter().map(of)) } else { of(dataset) }
        }
        _ => panic!("{file}: nobody computes {claim}"),
    }
}

/// In how many columns of Table 1 a dynamic baseline is, alone or not, the best of the baselines.
fn n_dynamic_seconds(printed: &Printed) -> usize {
    let dynamic = ["Greedy soup", "Pack of LLMs", "cBTM", "EvolMerge", "LoraHub"];
    let best_of = |column: &String, is_asked: &dyn Fn(&str) -> bool| {
        let rows = printed.row.iter().map(|row| row.name.as_str()).filter(|name| is_asked(name));
        rows.filter_map(|name| printed.get(name, column)).fold(f64::MIN, f64::max)
    };
    let is_second = |column: &&String| {
        best_of(column, &|name| dynamic.contains(&name))
            == best_of(column, &|name| name != "Model Swarms")
    };
    printed.columns.iter().filter(is_second).count()
}

#[test]
fn what_two_tables_print_is_the_same() {
    // Broken: one of two tables that share numbers was copied wrongly.
    let tables: BTreeMap<&str, Printed> = FILES.map(|name| (name, read(name).0)).into();
    let one = &tables["table01"];
    let mut n_shared = 0;
    let mut same = |a: Option<f64>, b: Option<f64>, what: &str| {
        assert_eq!(a, b, "{what}");
        n_shared += 1;
    };
    for name in ["table06", "table07"] {
        for column in &tables[name].columns {
            let ours = one.get("Model Swarms", &format!("{column} test"));
            same(tables[name].get("Full", column), ours, column);
        }
    }
    for column in &tables["table06"].columns {
        for (six, seven) in [("w/o 1", "No crossover"), ("w/o 2", "Velocity: zero")] {
            let seven = tables["table07"].get(seven, column);
            same(tables["table06"].get(six, column), seven, column);
        }
    }
    for (row, column) in ["Best single", "Model Swarms"]
        .iter()
        .flat_map(|row| tables["table10"].columns.iter().map(move |column| (row, column)))
    {
        same(tables["table10"].get(row, column), one.get(row, &format!("{column} test")), column);
    }
    for (row, ours) in [("Pre-swarm 7B", "Best single"), ("Post-swarm 7B", "Model Swarms")] {
        for split in ["dev", "test"] {
            let ours = one.get(ours, &format!("NLGraph {split}"));
            same(tables["table11"].get(row, split), ours, row);
        }
    }
    for dataset in ["MMLU", "MMLU-pro", "HellaSwag", "K-Crosswords"] {
        let levels = tables["figure02"].row.iter().filter(|row| {
            row.name.strip_prefix(dataset).is_some_and(|rest| rest.starts_with(": "))
        });
        let total: f64 = levels.flat_map(|row| &row.values).filter_map(number).sum();
        let name = if dataset == "HellaSwag" { "Hellaswag" } else { dataset };
        same(Some(total), tables["table12"].get(name, "dev"), dataset);
    }
    assert_eq!(n_shared, 8 + 8 + 12 + 4 + 4);
}
