//! A program of the user's: run, fed and waited for.
//!
//! What it prints is text here; what that text means is known to the task.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::error::{Error, Result};

/// What a program is given besides its own arguments.
pub enum Input<'a> {
    /// The folder of an adapter, as the last argument; nothing to read.
    Adapter(&'a Path),
    /// Lines on its standard input.
    Lines(&'a [String]),
}

/// What the program prints, run in `directory`.
///
/// # Errors
/// One that cannot be started, or ends with a failure: the last line that it said is told.
pub fn run_program(program: &[String], directory: &Path, input: Input) -> Result<String> {
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]).current_dir(directory);
    let lines = match input {
        Input::Adapter(dir) => {
            command.arg(dir).stdin(Stdio::null());
            String::new()
        }
        Input::Lines(lines) => {
            command.stdin(Stdio::piped());
            lines.iter().flat_map(|line| [line, "\n"]).collect()
        }
    };
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io(&program[0], "run"))?;
    let stdin = child.stdin.take();
    // A program may print before it has read everything: both go on at the same time.
    let (written, output) = thread::scope(|scope| {
        let writer = scope.spawn(move || match stdin {
            Some(mut stdin) => stdin.write_all(lines.as_bytes()),
            None => Ok(()),
        });
        let output = child.wait_with_output();
        (writer.join().unwrap_or_else(|_| Err(ErrorKind::Other.into())), output)
    });
    let output = output.map_err(Error::io(&program[0], "run"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.trim().lines().collect();
        let last = said.last().copied().unwrap_or("without a word on standard error");
        return Err(Error::input(&program[0], format!("ended with {}: {last}", output.status)));
    }
    // Who has answered without reading to the end has lacked nothing.
    written
        .or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
        .map_err(Error::io(&program[0], "write to"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
