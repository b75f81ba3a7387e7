//! No text of a suite may end in a panic, and every suite that opens can be counted.
//!
//! What is wrong must be said with the file and, where it is known, the line.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use model_swarms::suite::{Scale, Suite};

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let suite = match Suite::from_text(Path::new("suite.toml"), &text) {
        Ok(suite) => suite,
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with("suite.toml: ") && !said.contains('\n'), "{said}");
            return;
        }
    };
    assert!(suite.grid.n_choices() > 0);
    for scale in Scale::ALL {
        let mut n_cells = 0;
        for cell in suite.cells(scale) {
            assert!(suite.n_evaluations(&cell, scale) > 0);
            let (n_dev, n_test) = suite.n_examples(cell.column, scale);
            assert!(n_dev > 0 && n_test > 0);
            n_cells += 1;
        }
        assert!(n_cells >= suite.rows.len(), "a row without a cell");
    }
    serde_json::to_string(&suite).expect("a suite is plain data");
});
