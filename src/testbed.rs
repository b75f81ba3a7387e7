//! A testbed: where base model, experts and tasks are, as a few lines of TOML
//! (`suites/paper.toml` is a template).
//!
//! Paths are relative to the file. What is not there is listed whole, with what it is for, instead
//! of failing on the first; what is there and wrong is an error. Which tasks a table wants, and
//! what can be done without them, is not known here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::adapter::folders;
use crate::error::{Error, Result};
use crate::files::{json_lines, read_text};
use crate::mode::Mode;
use crate::model::locate::locate;
use crate::task::Task;

/// A testbed as its file describes it; nothing has been looked for.
#[derive(Debug, Clone)]
pub struct Testbed {
    /// Its name.
    pub name: String,
    path: PathBuf,
    raw: Raw,
}

/// What a testbed has of what is asked for.
#[derive(Debug)]
pub struct Inventory {
    /// The base model's directory.
    pub base: Option<PathBuf>,
    /// The experts' folders, sorted by name; none if one of those that are named is missing.
    pub experts: Vec<PathBuf>,
    /// The adapter that was trained on the data of all experts.
    pub data_merge: Option<PathBuf>,
    /// What tells how near the experts are to a question; none if any of it is missing.
    pub nearness: Option<NearnessFiles>,
    /// The tasks that were asked for, in that order.
    pub tasks: Vec<Option<Task>>,
    /// Everything that is not there.
    pub missing: Vec<Missing>,
}

/// What tells how near the experts are to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NearnessFiles {
    /// For each expert, a file of texts that it was trained on.
    Texts(Vec<PathBuf>),
    /// A file of embeddings, of such texts and of the questions.
    Embeddings(PathBuf),
}

/// An input that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What it is for.
    pub purpose: Purpose,
    /// The name under which the testbed's file asks for it, or where it was looked for.
    pub path: PathBuf,
}

/// What an input is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The base model.
    Base,
    /// The pool, or one expert of it.
    Experts,
    /// The adapter of merged data.
    DataMerge,
    /// The texts that an expert was trained on.
    TrainingTexts,
    /// The embeddings of training texts and questions.
    Embeddings,
    /// The task of this name: its file, or a file that this names.
    Task(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    name: String,
    base: String,
    experts: PathBuf,
    expert_names: Option<Vec<String>>,
    data_merge: Option<PathBuf>,
    training_texts: Option<PathBuf>,
    embeddings: Option<PathBuf>,
    tasks: Tasks,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "`tasks` must be a folder, or a table of task files by their names")]
enum Tasks {
    Folder(PathBuf),
    Files(BTreeMap<String, PathBuf>),
}

impl Testbed {
    /// Reads the testbed's file.
    pub fn open(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        let raw: Raw = toml::from_str(&text).map_err(|error| {
            let place = error.span().map(|span| Error::place(&text, span.start));
            let what = error.message().replace('\n', ", ");
            Error::input(path, format!("{}{what}", place.unwrap_or_default()))
        })?;
        if raw.name.trim().is_empty() || raw.name.chars().any(char::is_control) {
            let what = format!("`name` is {:?}, wanted one line that is not empty", raw.name);
            return Err(Error::input(path, what));
        }
        for name in raw.expert_names.iter().flatten() {
            let is_plain = Path::new(name).components().count() == 1 && !name.starts_with('.');
            if !is_plain || raw.expert_names.iter().flatten().filter(|n| *n == name).count() > 1 {
                let what =
                    format!("`expert-names` holds {name:?}, wanted different folders' names");
                return Err(Error::input(path, what));
            }
        }
        if raw.training_texts.is_some() && raw.embeddings.is_some() {
            let what = "has both `training-texts` and `embeddings`, wanted at most one of them";
            return Err(Error::input(path, what));
        }
        Ok(Self { name: raw.name.clone(), path: path.to_path_buf(), raw })
    }

    /// The testbed's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks for everything, and for the tasks of these names; tasks are read and checked as `mode`
    /// has it.
    pub fn find(&self, tasks: &[&str], mode: Mode) -> Result<Inventory> {
        let mut missing = Vec::new();
        let base = self.base().map_err(|lacking| missing.push(lacking)).ok();
        let experts = self.experts(&mut missing)?;
        let data_merge = self.raw.data_merge.as_ref().map(|dir| self.beside(dir));
        let data_merge = data_merge.and_then(|path| {
            let is_there = path.is_dir();
            if !is_there {
                missing.push(Missing { purpose: Purpose::DataMerge, path: path.clone() });
            }
            is_there.then_some(path)
        });
        let nearness = self.nearness(&experts, &mut missing);
        let mut found = Vec::with_capacity(tasks.len());
        for name in tasks {
            found.push(match self.task(name, mode)? {
                Ok(task) => Some(task),
                Err(path) => {
                    missing.push(Missing { purpose: Purpose::Task(name.to_string()), path });
                    None
                }
            });
        }
        Ok(Inventory { base, experts, data_merge, nearness, tasks: found, missing })
    }

    /// A directory beside the file, or an id in the local cache.
    fn base(&self) -> std::result::Result<PathBuf, Missing> {
        let base = &self.raw.base;
        let beside = self.beside(Path::new(base));
        if beside.is_dir() {
            return Ok(beside);
        }
        let lacking = || Missing { purpose: Purpose::Base, path: beside.clone() };
        if Path::new(base).exists() {
            return Err(lacking()); // in the working directory, which is not meant
        }
        locate(base).map_err(|_| lacking())
    }

    fn experts(&self, missing: &mut Vec<Missing>) -> Result<Vec<PathBuf>> {
        let dir = self.beside(&self.raw.experts);
        let lacking = |path| Missing { purpose: Purpose::Experts, path };
        let Some(names) = &self.raw.expert_names else {
            if dir.is_dir() {
                return folders(&dir);
            }
            missing.push(lacking(dir));
            return Ok(Vec::new());
        };
        let mut paths: Vec<PathBuf> = names.iter().map(|name| dir.join(name)).collect();
        paths.sort();
        let not_there: Vec<_> = paths.iter().filter(|path| !path.is_dir()).cloned().collect();
        if !not_there.is_empty() {
            paths.clear();
        }
        missing.extend(not_there.into_iter().map(lacking));
        Ok(paths)
    }

    /// What the file names to tell how near `experts` are to a question.
    fn nearness(&self, experts: &[PathBuf], missing: &mut Vec<Missing>) -> Option<NearnessFiles> {
        let n_missing = missing.len();
        let mut check = |path: &PathBuf, purpose: Purpose| {
            if !path.is_file() {
                missing.push(Missing { purpose, path: path.clone() });
            }
        };
        let files = if let Some(file) = &self.raw.embeddings {
            let file = self.beside(file);
            check(&file, Purpose::Embeddings);
            NearnessFiles::Embeddings(file)
        } else {
            let folder = self.beside(self.raw.training_texts.as_ref()?);
            let names = experts.iter().filter_map(|expert| expert.file_name());
            let text = |name: &OsStr| {
                let mut name = name.to_os_string();
                name.push(".jsonl");
                folder.join(name)
            };
            let texts: Vec<PathBuf> = names.map(text).collect();
            texts.iter().for_each(|path| check(path, Purpose::TrainingTexts));
            NearnessFiles::Texts(texts)
        };
        (missing.len() == n_missing).then_some(files)
    }

    /// The task `name`, or the first file of it that is not there.
    fn task(&self, name: &str, mode: Mode) -> Result<std::result::Result<Task, PathBuf>> {
        let path = match &self.raw.tasks {
            Tasks::Folder(folder) => self.beside(folder).join(format!("{name}.toml")),
            Tasks::Files(files) => match files.get(name) {
                Some(file) => self.beside(file),
                None => return Ok(Err(PathBuf::from(format!("tasks.{name}")))),
            },
        };
        let lacking = RefCell::new(None);
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| {
                if error.kind() == ErrorKind::NotFound {
                    *lacking.borrow_mut() = Some(path.to_path_buf());
                }
                Error::io(path, "read")(error)
            })
        };
        let task = Task::open_with(&path, mode, read);
        match (task, lacking.into_inner()) {
            (Ok(task), _) => {
                let lacking = task.parts.iter().find_map(|part| part.lacking_program());
                let lacking = lacking.map(Path::to_path_buf);
                Ok(lacking.map_or(Ok(task), Err))
            }
            (Err(_), Some(path)) => Ok(Err(path)),
            (Err(error), None) => Err(error),
        }
    }

    fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let path = self.path.display();
        match &self.purpose {
            Purpose::Base => write!(f, "{path} (the base model)"),
            Purpose::Experts => write!(f, "{path} (the experts)"),
            Purpose::DataMerge => write!(f, "{path} (the adapter of merged data)"),
            Purpose::TrainingTexts => write!(f, "{path} (texts that an expert was trained on)"),
            Purpose::Embeddings => write!(f, "{path} (embeddings of training texts and questions)"),
            Purpose::Task(name) => write!(f, "{path} (the task {name})"),
        }
    }
}

/// The texts of a file of training texts: `{"text": "..."}` a line.
pub fn training_texts(path: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        text: String,
    }
    let texts: Vec<Line> = json_lines(path)?;
    if texts.is_empty() {
        return Err(Error::input(path, "is empty, wanted a training text a line"));
    }
    if let Some(line_idx) = texts.iter().position(|line| line.text.trim().is_empty()) {
        return Err(Error::input(path, format!("line {}: the text is empty", line_idx + 1)));
    }
    Ok(texts.into_iter().map(|line| line.text).collect())
}
