//! The house rules that a program can check: which room imports which, and how files are kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms and their heights. A room imports only from lower ones: so a reader can start anywhere
/// and look in one direction, and nothing that computes learns where its numbers are used.
const ROOMS: [(&str, usize); 29] = [
    ("error", 0),
    ("files", 1),
    ("mode", 1),
    ("rng", 1),
    ("suite", 2),
    ("tensors", 2),
    ("backend", 3),
    ("adapter", 4),
    ("example", 5),
    ("mini", 4),
    ("stats", 4),
    ("claims", 5),
    ("baseline", 5),
    ("model", 5),
    ("task", 6),
    ("swarm", 6),
    ("train", 6),
    ("cli", 7),
    ("audit", 7),
    ("run", 7),
    ("build", 7),
    ("testbed", 7),
    ("check", 8),
    ("plan", 8),
    ("reproduce", 9),
    ("report", 10),
    ("commands", 11),
    ("lib", 12),
    ("main", 12),
];

/// Where `unsafe` may stand: maps, SIMD, the buffers they share between threads, and CUDA's driver.
const MAY_BE_UNSAFE: [&str; 5] = [
    "src/tensors",
    "src/tensors.rs",
    "src/backend/cpu",
    "src/backend/cuda/gpu.rs",
    "src/swarm/weights.rs",
];

const MAX_LINES: usize = 400;
const MAX_COLUMNS: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below `folder`, by path relative to the repository, with their text.
fn sources(folder: &str) -> BTreeMap<PathBuf, String> {
    files(folder, &["rs"])
}

/// The kernels, their headers and what runs them on the host, as `sources` has it.
fn kernel_files() -> BTreeMap<PathBuf, String> {
    files("kernels", &["cu", "cuh", "cpp", "h"])
}

/// The files below `folder` that have one of these extensions.
fn files(folder: &str, extensions: &[&str]) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| extensions.iter().any(|e| end == *e)) {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(root()).unwrap().to_path_buf(), text);
            }
        }
    }
    found
}

/// `text` without its comments and without what stands in string literals on one line.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let mut rest = line;
        while let Some(at) = rest.find(['"', '/']) {
            code.push_str(&rest[..at]);
            let found = &rest[at..];
            if found.starts_with("//") {
                rest = "";
            } else if let Some(literal) = found.strip_prefix('"') {
                rest = after_literal(literal);
                code.push_str("\"\"");
            } else {
                code.push('/');
                rest = &found[1..];
            }
        }
        code.push_str(rest);
        code.push('\n');
    }
    code
}

/// What follows the quote that ends a string literal; all of it where the line ends first.
fn after_literal(literal: &str) -> &str {
    let mut escaped = false;
    for (at, letter) in literal.char_indices() {
        match letter {
            '"' if !escaped => return &literal[at + 1..],
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    ""
}

/// The words that follow each `prefix` in `code`: one, or the outer ones of a list in braces.
fn words_after(code: &str, prefix: &str) -> Vec<String> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut words = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = code[at + prefix.len()..].trim_start();
        let Some(list) = rest.strip_prefix('{') else {
            words.push(rest.chars().take_while(|&letter| is_word(letter)).collect());
            continue;
        };
        let (mut depth, mut starts) = (1, true);
        for (at, letter) in list.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => starts = true,
                _ if depth == 1 && starts && is_word(letter) => {
                    words.push(list[at..].chars().take_while(|&letter| is_word(letter)).collect());
                    starts = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    words
}

/// The room that a file of `src` belongs to: its folder, or its own name.
fn room_of(path: &Path) -> String {
    let first = path.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").map(str::to_owned).unwrap_or(first)
}

fn height_of(room: &str) -> Option<usize> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, height)| *height)
}

/// Rooms that `code`, standing in `path`, names.
fn imports(path: &Path, code: &str) -> Vec<String> {
    let mut named = words_after(code, "crate::");
    named.extend(words_after(code, "model_swarms::"));
    // `super::task` is the room only where no neighbour of that name stands nearer.
    let folder = root().join(path).with_file_name("");
    let is_neighbour =
        |name: &str| folder.join(format!("{name}.rs")).exists() || folder.join(name).is_dir();
    let is_top = path.components().count() == 2;
    let by_super = words_after(code, "super::").into_iter();
    named.extend(by_super.filter(|name| is_top || !is_neighbour(name)));
    named.retain(|name| height_of(name).is_some());
    named
}

#[test]
fn rooms_import_only_from_lower_rooms() {
    // Broken: the layers have grown into each other, and none can be read or tested alone.
    let mut n_imports = 0;
    for (path, text) in sources("src") {
        let room = room_of(&path);
        let Some(height) = height_of(&room) else {
            panic!("{} belongs to no room: add it to ROOMS, at its height", path.display())
        };
        for import in imports(&path, &code_of(&text)) {
            n_imports += 1;
            let import_height = height_of(&import).unwrap();
            assert!(
                import == room || import_height < height,
                "{}: room {room} may not import from {import}",
                path.display()
            );
        }
    }
    assert!(n_imports > 50, "only {n_imports} imports were found: the search is broken");
}

#[test]
fn imports_are_found_in_every_form() {
    // Broken: an import could be written so that the test above does not see it.
    let code = code_of(
        "use crate::{\n    error::{Error, Result},\n    files, // crate::swarm\n    model::x,\n};\n\
         let y = crate::task::open(\"crate::run\"); pub(crate) fn f() {} // crate::rng\n\
         use super::super::backend::z; use model_swarms::commands;\n",
    );
    let mut found = imports(Path::new("src/model/x.rs"), &code);
    found.sort();
    assert_eq!(found, ["backend", "commands", "error", "files", "model", "task"]);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    // Broken: a file has outgrown its idea, or a reader must guess what lives in it.
    let rust = sources("src").into_iter().map(|file| (file, "//! "));
    let kernels = kernel_files().into_iter().map(|file| (file, "// "));
    for ((path, text), head) in rust.chain(kernels) {
        let n_lines = text.lines().count();
        assert!(n_lines <= MAX_LINES, "{}: {n_lines} lines", path.display());
        assert!(text.starts_with(head), "{}: opens without a head comment", path.display());
        for (line_idx, line) in text.lines().enumerate() {
            let n_columns = line.chars().count();
            let place = format!("{}:{}", path.display(), line_idx + 1);
            assert!(n_columns <= MAX_COLUMNS, "{place}: {n_columns} columns");
        }
    }
}

#[test]
fn nothing_is_left_undone() {
    // Broken: a note to oneself, or a trace of debugging, is about to be published.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("db", "g!("),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
    ];
    for (path, text) in sources("src").into_iter().chain(sources("tests")).chain(kernel_files()) {
        for mark in marks {
            assert!(!text.contains(mark), "{}: contains {mark}", path.display());
        }
    }
}

#[test]
fn unsafe_code_stays_in_its_places() {
    // Broken: code that the compiler cannot check has spread to where nobody looks for it.
    let mut n_places = 0;
    for (path, text) in sources("src") {
        let code = code_of(&text);
        let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let n_unsafe = words.filter(|word| *word == "unsafe").count();
        n_places += n_unsafe;
        let allowed = MAY_BE_UNSAFE.iter().any(|place| path.starts_with(place));
        assert!(n_unsafe == 0 || allowed, "{}: has unsafe code", path.display());
    }
    assert!(n_places > 0, "no unsafe code was found at all: the search is broken");
}

#[test]
fn no_unwrap_outside_tests() {
    // Broken: a file of the user's could end the program in a panic instead of a sentence.
    for (path, text) in sources("src") {
        let code = code_of(&text);
        let shipped = code.split("#[cfg(test)]").next().unwrap_or_default();
        for call in [".unwrap()", ".unwrap_err()"] {
            assert!(!shipped.contains(call), "{}: calls {call}", path.display());
        }
    }
}

#[test]
fn the_machines_own_operations_stand_in_one_file() {
    // Broken: a kernel uses an operation that the tests on the host cannot hold to the CPU's, or
    // rounds where its source does not say so.
    let may = ["ptx.cuh", "hopper.cuh", "common.cuh", "host", "planted"];
    let mut n_kernels = 0;
    for (path, text) in kernel_files() {
        let code = code_of(&text);
        n_kernels += code.matches("KERNEL(").count();
        if may.iter().any(|place| path.starts_with(Path::new("kernels").join(place))) {
            continue;
        }
        let mut words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let is_own = |word: &str| word.starts_with("__") && word != "__VA_ARGS__";
        let own = words.find(|word| is_own(word) || ["asm", "fmaf"].contains(word));
        assert_eq!(own, None, "{}: belongs into ptx.cuh or hopper.cuh", path.display());
    }
    assert!(n_kernels > 30, "only {n_kernels} kernels were found: the search is broken");
}

#[test]
fn every_kernel_is_compiled_and_can_be_launched() {
    // Broken: a kernel is left out of the fatbin, or no test can run it.
    let kernels = kernel_files();
    let all = &kernels[Path::new("kernels/all.cu")];
    let ladder = |text: &str| text.contains("// v1") || text.contains("// v2");
    for (path, text) in &kernels {
        let name = path.file_name().unwrap().to_string_lossy();
        let is_op = path.components().count() == 2 && name.ends_with(".cu") && name != "all.cu";
        let code = code_of(text);
        if path.extension().is_some_and(|extension| extension == "cu") {
            let (n_kernels, n_exports) =
                (code.matches("KERNEL(").count(), code.matches("EXPORT(").count());
            assert_eq!(n_kernels, n_exports, "{}: kernels and EXPORTs", path.display());
        }
        if is_op {
            assert!(all.contains(&format!("#include \"{name}\"")), "all.cu lacks {name}");
            assert!(text.contains("Floor:") && ladder(text), "{name}: no floor, or no ladder");
        }
    }
}
