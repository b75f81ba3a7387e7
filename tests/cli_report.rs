//! The pages about runs, and the results that a reproduction is compared with.

mod common;

use std::fs;
use std::path::Path;

use common::cli::{Inputs, example, model_swarms, run, run_ok, run_refused};
use common::table::{table_1, testbed};
use model_swarms::backend::cpu::Isa;
use model_swarms::model::Device;
use model_swarms::report::{Page, Section};
use model_swarms::reproduce::{Marks, Request, Results, in_print, reproduce, text};
use model_swarms::run::evaluate::Options;
use model_swarms::suite::{Scale, Suite};
use model_swarms::testbed::Testbed;

/// Table 1 at a size that takes a second, with these seeds.
fn small_table(inputs: &Inputs, testbed: &Path, seeds: &[u64]) -> Results {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites/table01.toml");
    let mut suite = Suite::open(&suite).unwrap();
    (suite.smoke.dev, suite.smoke.test) = (4, 8);
    (suite.smoke.budget, suite.smoke.cap) = (24, 24);
    suite.smoke.seeds = seeds.to_vec();
    let options = Options {
        device: Device::Cpu,
        isa: Isa::from_environment().unwrap(),
        application: None,
        batch: Some(16),
    };
    let (testbed, scale) = (Testbed::open(testbed).unwrap(), Scale::Smoke);
    let out = inputs.folder.join("out");
    reproduce(&Request { suite, testbed, scale, seed: None, out, options }, &mut |_| ()).unwrap()
}

fn page_of(results: &Results) -> String {
    Page::of(vec![Section::of_table(results).unwrap()]).html()
}

/// The page that `report` makes of these runs.
fn report(inputs: &Inputs, runs: &[&Path]) -> String {
    let out = inputs.folder.join("page/of/runs");
    let mut command = model_swarms(["report"]);
    command.args(runs).arg("--out").arg(&out);
    assert_eq!(run_ok(command), format!("wrote {}\n", out.join("report.html").display()));
    fs::read_to_string(out.join("report.html")).unwrap()
}

/// Nothing of a page comes from elsewhere, and every chart is whole.
#[track_caller]
fn check_page(html: &str) {
    for foreign in ["http", "src=", "href=", "<script", "url(", "NaN", "inf\"", "undefined"] {
        assert!(!html.contains(foreign), "the page contains {foreign}");
    }
    for tag in ["svg", "table", "section", "tr", "td", "figure", "details"] {
        let opened =
            html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn a_table_of_several_seeds_has_spreads_and_a_curve_for_each() {
    // Broken: one lucky seed would stand for a method, or the page would show curves of others.
    let (inputs, path) = testbed(&["mmlu"]);
    let file = fs::read_to_string(&path).unwrap();
    fs::write(&path, file.replace("name = \"example\"", "name = \"<b> & 'c'\"")).unwrap();
    let results = small_table(&inputs, &path, &[1, 2, 3]);
    let cells: Vec<_> = results.computed().filter(|c| c.row == "Model Swarms").collect();
    assert_eq!(cells.iter().map(|cell| cell.seed).collect::<Vec<_>>(), [1, 2, 3]);
    let tests: Vec<f64> = cells.iter().map(|cell| cell.test.unwrap()).collect();
    let mean = tests.iter().sum::<f64>() / 3.0;
    let sd = (tests.iter().map(|f| (f - mean) * (f - mean)).sum::<f64>() / 2.0).sqrt();
    assert!(sd > 0.0, "choose other seeds");
    let spread = format!("±{sd:.3}").replace("±0", "±");

    let printed = in_print(results.item).unwrap();
    let page = text(&results, printed.as_ref(), Marks::Plain);
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("Model Swarms  ")).collect();
    assert!(rows[1].contains(&format!("{mean:.3}")) && rows[1].contains(&spread), "{}", rows[1]);
    assert!(page.lines().take(60).all(|line| line.chars().count() <= 100), "{page}");
    let single = page.lines().find(|line| line.starts_with("Best single")).unwrap();
    assert!(!single.contains('±'), "{single}");

    for cell in results.computed().filter(|cell| !cell.curve.is_empty()) {
        assert!(cell.curve.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 < two[1].1));
        let (last, best) = *cell.curve.last().unwrap();
        assert!(cell.curve[0].0 == 1 && last <= cell.calls && best >= cell.dev, "{}", cell.row);
    }
    let html = page_of(&results);
    check_page(&html);
    assert!(html.contains("&lt;b&gt; &amp; &#x27;c&#x27;") && !html.contains("<b>"));
    assert!(html.contains(&format!("<span class=\"spread\">{spread}</span>")));
    // Greedy soup draws nothing; six rows that search do.
    assert_eq!(html.matches("<polyline").count(), 1 + 6 * 3);
    assert_eq!(html.matches("<svg").count(), 1);
    for (role, hash) in &results.sha256 {
        let role = role.replace('/', "&#x2f;");
        assert!(html.contains(&role) && html.contains(hash), "{role}");
    }
    for claim in &results.claims {
        assert!(html.contains(&claim.printed_text()), "{}", claim.id);
    }
}

#[test]
fn reports_are_made_of_what_runs_left_behind() {
    // Broken: a page could be made only while the run is going on, or of other numbers.
    let (inputs, testbed) = testbed(&["mmlu"]);
    let table = inputs.folder.join("table");
    run_ok(table_1(&testbed, &table));
    let made = fs::read_to_string(table.join("report.html")).unwrap();
    assert_eq!(report(&inputs, &[&table]), made);
    check_page(&made);

    let found = inputs.folder.join("run");
    let settings = ["particles=12", "max_iterations=3"];
    let told = run_ok(inputs.search(&found, &settings));
    let html = report(&inputs, &[&found, &table, &found]);
    check_page(&html);
    assert_eq!((html.matches("<section>").count(), html.matches("<svg").count()), (3, 3));
    let weights: Vec<&str> = told.lines().filter(|line| line.contains(" x ")).collect();
    assert_eq!(weights.len(), 10);
    for line in weights {
        let (weight, expert) = line.trim().split_once(" x ").unwrap();
        let row = format!("<tr><td>{expert}</td><td class=\"number\">{weight}</td>");
        assert!(html.contains(&row), "{row}");
    }

    // As a kill leaves it.
    for file in ["results.json", "table.txt"] {
        fs::remove_file(found.join(file)).unwrap();
    }
    let journal = found.join("journal.jsonl");
    let lines = fs::read_to_string(&journal).unwrap();
    let kept: String = lines.split_inclusive('\n').take(3).collect();
    fs::write(&journal, format!("{kept}{{\"iter")).unwrap();
    let html = report(&inputs, &[&found]);
    check_page(&html);
    assert!(html.contains("Search run, unfinished") && html.contains("<svg"));
}

#[test]
fn a_report_of_something_else_is_refused() {
    // Broken: a wrong folder would end in an empty page, a spoilt file in a panic.
    let inputs = example().copy(10, 4, 4);
    let found = inputs.folder.join("run");
    run_ok(inputs.search(&found, &["particles=12", "max_iterations=1"]));
    let out = inputs.folder.join("page");
    let refused = |run: &Path, wanted: &[&str]| {
        let mut command = model_swarms(["report"]);
        command.arg(run).arg("--out").arg(&out);
        run_refused(wanted[0], command, wanted);
        assert!(!out.exists(), "{wanted:?}");
    };
    refused(&inputs.base, &["base", "wanted a folder that `reproduce` made"]);
    refused(Path::new("/nowhere"), &["/nowhere", "wanted a folder"]);
    let table = inputs.folder.join("table");
    fs::create_dir_all(table.join("cells")).unwrap();
    refused(&table, &["is not finished", "table"]);
    for bad in ["", "[]", "{\"item\": {\"table\": 1}}"] {
        fs::write(table.join("results.json"), bad).unwrap();
        refused(&table, &["not the results of `reproduce`", "results.json"]);
    }
    let results = found.join("results.json");
    fs::write(&results, "{}").unwrap();
    refused(&found, &["not the results of `search`", "results.json"]);
    fs::remove_file(&results).unwrap();
    let journal = found.join("journal.jsonl");
    let lines = fs::read_to_string(&journal).unwrap();
    let (header, _) = lines.split_once('\n').unwrap();
    fs::write(&journal, header).unwrap();
    refused(&found, &["line 1 is not complete", "journal.jsonl"]);
    fs::write(&journal, format!("{header}\n")).unwrap();
    refused(&found, &["no iteration is finished", "run"]);
    let elsewhere = lines.replace("\"g_source\":[", "\"g_source\":[99");
    fs::write(&journal, elsewhere).unwrap();
    refused(&found, &["which is not recorded", "journal.jsonl"]);
}

#[test]
fn departures_from_expected_results_are_listed() {
    // Broken: a change of the program could change the paper's table, and nobody would be told.
    let (inputs, testbed) = testbed(&["mmlu"]);
    let (out, expected) = (inputs.folder.join("out"), inputs.folder.join("expected.json"));
    let mut command = table_1(&testbed, &out);
    command.args(["--commit", "c0ffee", "--write-expected"]).arg(&expected);
    run_ok(command);
    let compared = || {
        let mut command = table_1(&testbed, &out);
        command.arg("--expected").arg(&expected);
        command
    };
    let ran = run(compared());
    let (code, told) = (ran.code, ran.stderr);
    assert!(code == 0 && told.ends_with("17 cells and 13 verdicts\n"), "{code}: {told}");
    let ran = run(table_1(&testbed, &out));
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.ends_with("no results are known to compare these with\n"), "{}", ran.stderr);

    let good = fs::read_to_string(&expected).unwrap();
    assert!(good.lines().count() < 60, "{good}");
    let slerp = good.lines().find(|line| line.contains("\"Slerp\"")).unwrap();
    let swarm = good.lines().find(|line| line.contains("\"Model Swarms\"")).unwrap();
    let spoilt = good
        .replace(&format!("{slerp}\n"), "")
        .replace(swarm, &swarm.replace("\"dev\":", "\"dev\":1"))
        .replace("\"table01-mean-gain\": null", "\"table01-mean-gain\": \"holds\"");
    fs::write(&expected, spoilt).unwrap();
    let ran = run(compared());
    assert_eq!((ran.code, ran.stdout), (1, fs::read_to_string(out.join("table.txt")).unwrap()));
    let (_, list) = ran.stderr.split_once("commit c0ffee) in 4 places:\n").unwrap();
    let list: Vec<&str> = list.lines().map(str::trim).collect();
    assert!(list[0].starts_with("Model Swarms on MMLU, dev, seed 1: expected 1"), "{list:?}");
    assert!(list[1].starts_with("Slerp on MMLU, dev, seed 1: expected no number, found 0."));
    assert!(list[2].starts_with("Slerp on MMLU, test, seed 1: expected no number, found 0."));
    assert_eq!(list[3], "claim table01-mean-gain: expected \"holds\", found \"not judged\"");

    fs::remove_dir_all(&out).unwrap();
    for (bad, wanted) in [
        (good.replace("\"smoke\"", "\"full\""), "scale full, seeds [1], wanted Table 1 on"),
        (good.replace("\"example\"", "\"other\""), "is of Table 1 on testbed other"),
        (good[..good.len() / 2].to_string(), "not expected values"),
        (good.replace("\"cells\"", "\"cell\""), "not expected values"),
    ] {
        fs::write(&expected, bad).unwrap();
        run_refused(wanted, compared(), &["expected.json", wanted]);
        assert!(!out.exists(), "{wanted}");
    }
}

#[test]
fn a_folder_of_cells_is_filled_by_one_process() {
    // Broken: two processes would compute the same cells, each of them for hours.
    let (inputs, testbed) = testbed(&["mmlu"]);
    let out = inputs.folder.join("out");
    fs::create_dir_all(out.join("cells")).unwrap();
    let held = fs::File::open(out.join("cells")).unwrap();
    held.lock().unwrap();
    run_refused("held", table_1(&testbed, &out), &["cells", "another process"]);
    drop(held);
    run_ok(table_1(&testbed, &out));
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    // Broken: a run for a GPU would crawl on the processor, and its user would not know why.
    let (inputs, testbed) = testbed(&["mmlu"]);
    let out = inputs.folder.join("out");
    let eval = || inputs.eval(None, "dev");
    for (name, mut command) in [
        ("search", inputs.search(&out, &[])),
        ("eval", eval()),
        ("generate", inputs.generate(&inputs.data, 1)),
        ("reproduce", table_1(&testbed, &out)),
    ] {
        command.args(["--device", "cuda"]);
        run_refused(name, command, &["--device cuda: this build has no CUDA"]);
        assert!(!out.exists(), "{name}");
    }
    let [auto, cpu] = ["auto", "cpu"].map(|device| {
        let mut command = eval();
        command.args(["--device", device]);
        run_ok(command)
    });
    assert_eq!([&auto, &cpu], [&run_ok(eval()); 2]);
}
