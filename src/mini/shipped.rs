//! The testbed's files as they are shipped: part of the program, put on disk where they are used.

use std::fs;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use crate::error::{Error, Result};
use crate::files::{sha256_of, write_atomic, write_dir_atomic};

static SHIPPED: Dir = include_dir!("$CARGO_MANIFEST_DIR/suites/mini");

/// The list of all files with their SHA-256.
const SUMS: &str = "SHA256SUMS";

/// The folder in which the testbed's files lie, `testbed.toml` among them: in the user's cache, or
/// where there is none, among temporary files. Whatever is missing or altered there is put right.
pub fn folder() -> Result<PathBuf> {
    let sums = SHIPPED.get_file(SUMS).map(|file| file.contents()).unwrap_or_default();
    let version = sha256_of(sums);
    let name = format!("mini-{}", &version[..16]);
    let places = cache().into_iter().chain([std::env::temp_dir()]);
    let mut failed = None;
    for place in places.map(|place| place.join("model-swarms")) {
        let dir = place.join(&name);
        let put = || -> Result<()> {
            fs::create_dir_all(&place).map_err(Error::io(&place, "create"))?;
            if is_whole(&dir) { Ok(()) } else { write_dir_atomic(&dir, |dir| write(&SHIPPED, dir)) }
        };
        match put() {
            Ok(()) => return Ok(dir),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| Error::Usage("there is no place for the mini testbed".into())))
}

/// The user's folder for what can be made again.
fn cache() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))
}

/// Whether every shipped file stands under `dir` as it is shipped.
fn is_whole(dir: &Path) -> bool {
    fn same(files: &Dir, dir: &Path) -> bool {
        files
            .files()
            .all(|file| fs::read(dir.join(file.path())).is_ok_and(|found| found == file.contents()))
            && files.dirs().all(|inner| same(inner, dir))
    }
    same(&SHIPPED, dir)
}

fn write(files: &Dir, dir: &Path) -> Result<()> {
    for file in files.files() {
        write_atomic(&dir.join(file.path()), |out| out.write_all(file.contents()))?;
    }
    for inner in files.dirs() {
        let path = dir.join(inner.path());
        fs::create_dir_all(&path).map_err(Error::io(&path, "create"))?;
        write(inner, dir)?;
    }
    Ok(())
}
