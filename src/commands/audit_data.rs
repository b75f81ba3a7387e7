//! A data audit as a page: for each file its sizes and majority answers, and what was found in it.

use crate::audit::data::{DataReport, FileReport, Leaks, Majority, SplitReport};

/// The page.
pub fn text(report: &DataReport) -> String {
    let mut page = String::new();
    for file in &report.files {
        page.push_str(&file_text(file));
    }
    page.push_str("\nQuestions that two files share (dev-dev, dev-test, test-dev, test-test):\n");
    for pair in &report.shared {
        let [first, second] = &pair.files;
        page.push_str(&format!(
            "  {first} and {second}: {}, {}, {}, {}\n",
            pair.dev_dev, pair.dev_test, pair.test_dev, pair.test_test
        ));
    }
    if report.shared.is_empty() {
        page.push_str("  none\n");
    }
    page
}

fn file_text(file: &FileReport) -> String {
    let (dev, test) = (&file.dev, &file.test);
    let mut page = format!("{}: {} dev, {} test\n", file.name, dev.examples, test.examples);
    let majorities = [("dev", dev), ("test", test)].map(|(name, split)| {
        let share = |majority: &Majority| {
            let percent = 100.0 * majority.examples as f64 / split.examples as f64;
            format!("{name} {:?} {percent:.1} %", shortened(&majority.gold))
        };
        split.majority.as_ref().map(share)
    });
    let majorities: Vec<String> = majorities.into_iter().flatten().collect();
    if !majorities.is_empty() {
        page.push_str(&format!("  most frequent gold: {}\n", majorities.join(", ")));
    }
    page.push_str(&leaks_text(&file.leaks, test.examples));
    let mut finding = |what: &str, of: &dyn Fn(&SplitReport) -> usize| {
        let (n_dev, n_test) = (of(dev), of(test));
        if n_dev + n_test > 0 {
            page.push_str(&format!("  {what}: {n_dev} dev, {n_test} test\n"));
        }
    };
    finding("no gold", &|split| split.golds.missing);
    finding("gold not among the choices", &|split| split.golds.not_among_choices);
    finding("ambiguous gold, another choice has its text", &|split| split.golds.ambiguous);
    finding("trap: a choice is part of another", &|split| split.traps.choice_in_choice);
    finding("trap: the authors' parser misreads the right answer", &|split| {
        split.traps.misread_by_authors
    });
    finding("trap: mode paper's parser misreads the right answer", &|split| {
        split.traps.misread_by_ours
    });
    finding("trap: the gold is one digit", &|split| split.traps.single_digit);
    finding("trap: the gold has a comma", &|split| split.traps.comma);
    finding("trap: the gold is a short word", &|split| split.traps.short_word);
    let repeats = &file.repeats;
    if repeats.within_split > 0 {
        page.push_str(&format!("  repeated within a split: {} examples\n", repeats.within_split));
    }
    if repeats.contradictions > 0 {
        let n = repeats.contradictions;
        page.push_str(&format!("  contradiction: {n} questions with two different golds\n"));
    }
    page
}

fn leaks_text(leaks: &Leaks, n_test: usize) -> String {
    if leaks.normalised == 0 {
        return String::new();
    }
    format!(
        "  LEAK: {} of {n_test} test questions stand in dev ({} to the letter; {} with the same \
         gold; {} identical examples)\n",
        leaks.normalised, leaks.exact, leaks.same_gold, leaks.identical
    )
}

/// The first 20 characters.
fn shortened(text: &str) -> String {
    text.chars().take(20).collect()
}
