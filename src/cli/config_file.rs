//! `--config-file`: every flag as a key of the same name.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind as ClapError;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use serde_yaml_ng::Value;

/// Returns the arguments with those of the config file put before the command line's own, or `None` where no file
/// is named. A key that is also a flag on the command line is left out, so that flags win for lists as well.
pub(super) fn merge(
    root: &Command,
    matches: &ArgMatches,
    args: Vec<OsString>,
) -> Result<Option<Vec<OsString>>, clap::Error> {
    let (command, matches, depth) = innermost(root, matches);
    let Some(path) = config_path(matches) else { return Ok(None) };
    let refuse = |reason: String| {
        clap::Error::raw(ClapError::InvalidValue, format!("config file {}: {reason}\n", path.display()))
    };
    let text = std::fs::read_to_string(&path).map_err(|e| refuse(format!("cannot read it: {e}")))?;
    let value: Value = serde_yaml_ng::from_str(&text).map_err(|e| refuse(e.to_string()))?;
    let from_file = arguments(command, matches, value).map_err(refuse)?;
    let split = args.len().min(1 + depth);
    let (names, rest) = args.split_at(split);
    Ok(Some(names.iter().cloned().chain(from_file).chain(rest.iter().cloned()).collect()))
}

/// Says in a refusal that the value may come from the file.
pub(super) fn name_the_file(mut error: clap::Error) -> clap::Error {
    let note = "a value of the command line or of the same key in the config file".to_owned();
    error.insert(
        clap::error::ContextKind::Suggested,
        clap::error::ContextValue::StyledStrs(vec![note.into()]),
    );
    error
}

fn innermost<'a>(root: &'a Command, matches: &'a ArgMatches) -> (&'a Command, &'a ArgMatches, usize) {
    let (mut command, mut matches, mut depth) = (root, matches, 0);
    while let Some((name, inner)) = matches.subcommand() {
        match command.find_subcommand(name) {
            Some(found) => (command, matches, depth) = (found, inner, depth + 1),
            None => break,
        }
    }
    (command, matches, depth)
}

fn config_path(matches: &ArgMatches) -> Option<PathBuf> {
    matches.try_get_one::<PathBuf>("config_file").ok().flatten().cloned()
}

fn arguments(command: &Command, matches: &ArgMatches, file: Value) -> Result<Vec<OsString>, String> {
    let map = match file {
        Value::Null => return Ok(Vec::new()),
        Value::Mapping(map) => map,
        _ => return Err("the file is not a mapping: write one `flag-name: value` a line".to_owned()),
    };
    let known: Vec<(&str, &str, bool)> = command
        .get_arguments()
        .filter_map(|arg| Some((arg.get_long()?, arg.get_id().as_str(), arg.get_action().takes_values())))
        .filter(|(long, ..)| !matches!(*long, "config-file" | "help" | "version"))
        .collect();
    let mut arguments = Vec::new();
    for (key, value) in map {
        let key = key.as_str().ok_or("a key is not text")?.to_owned();
        let Some((long, id, takes_value)) = known.iter().find(|(long, ..)| *long == key) else {
            let allowed = known.iter().map(|(long, ..)| *long).collect::<Vec<_>>().join(", ");
            return Err(format!("key {key:?} is not known; allowed are {allowed}"));
        };
        if matches.value_source(id) == Some(ValueSource::CommandLine) {
            continue;
        }
        if *takes_value {
            let values = values(&key, value)?.into_iter();
            arguments.extend(values.map(|text| OsString::from(format!("--{long}={text}"))));
        } else if switch(&key, &value)? {
            arguments.push(OsString::from(format!("--{long}")));
        }
    }
    Ok(arguments)
}

/// Reads the value of a flag that is there or not.
fn switch(key: &str, value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("key {key:?} is a switch: true and false are allowed"))
}

/// Writes a YAML value as flag values: a list repeats the flag, a mapping is passed on as YAML.
fn values(key: &str, value: Value) -> Result<Vec<String>, String> {
    Ok(match value {
        Value::Sequence(list) => {
            list.into_iter().map(|v| values(key, v)).collect::<Result<Vec<_>, _>>()?.concat()
        }
        Value::String(text) => vec![text],
        Value::Bool(flag) => vec![flag.to_string()],
        Value::Number(number) => vec![number.to_string()],
        Value::Mapping(_) => {
            vec![serde_yaml_ng::to_string(&value).map_err(|e| format!("key {key:?}: {e}"))?]
        }
        Value::Null | Value::Tagged(_) => return Err(format!("key {key:?} has no value")),
    })
}
