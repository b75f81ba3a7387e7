//! Finding a base model by directory or by id.

use std::fs;
use std::path::Path;

use model_swarms::model::locate::locate_in;

#[test]
fn a_directory_is_itself() {
    // Broken: the plainest way of naming a model would fail.
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().to_str().unwrap();
    assert_eq!(locate_in(base, None).unwrap(), dir.path());
}

#[test]
fn an_id_is_found_in_the_cache() {
    // Broken: models that the user has downloaded already would have to be given by their hash.
    let cache = tempfile::tempdir().unwrap();
    let repository = cache.path().join("models--google--gemma-7b-it");
    let snapshot = repository.join("snapshots/9c5798d27f588501ce1e108079d2a19e4c3a2353");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    let reference = repository.join("refs/main");
    fs::write(&reference, "9c5798d27f588501ce1e108079d2a19e4c3a2353\n").unwrap();
    let find = || locate_in("google/gemma-7b-it", Some(cache.path()));
    assert_eq!(find().unwrap(), snapshot);

    fs::write(&reference, "../../elsewhere").unwrap();
    assert!(find().unwrap_err().to_string().contains("refs/main: does not hold"));
    fs::write(&reference, "0123abcd").unwrap();
    assert!(find().unwrap_err().to_string().contains("0123abcd: is missing"));
    fs::remove_file(&reference).unwrap();
    assert!(find().unwrap_err().to_string().contains("refs/main: cannot read"));
}

#[test]
fn what_is_not_found_is_said_with_the_place() {
    // Broken: a user with a typing error would not learn where the program looked.
    let cache = Path::new("/nowhere/hub");
    let complaint = locate_in("google/gemma-8b", Some(cache)).unwrap_err().to_string();
    assert!(complaint.contains("/nowhere/hub/models--google--gemma-8b"), "{complaint}");
    let complaint = locate_in("google/gemma-8b", None).unwrap_err().to_string();
    assert!(complaint.contains("HF_HOME"), "{complaint}");
    for base in ["./gemma", "/nowhere/gemma", "a/b/c", "../..x", "a//", "é/b"] {
        let complaint = locate_in(base, Some(cache)).unwrap_err().to_string();
        assert!(complaint.ends_with("there is no such directory"), "{complaint}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let complaint = locate_in(file.path().to_str().unwrap(), None).unwrap_err().to_string();
    assert!(complaint.contains("is a file"), "{complaint}");
}
