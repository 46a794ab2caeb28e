//! Configuration: one TOML file a program, overridden by `SAKIMORI_SECTION__KEY` in the environment. An
//! unknown key is an error that names file and line.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Largest configuration file.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A line of the file is wrong.
    #[error("{path}:{line}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// From 1; 0 where the parser could not tell.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// An override in the environment is wrong.
    #[error("environment variable {name}: {reason}")]
    Environment {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a configuration. Without a path, or where `optional` and the file is absent, the defaults of `T`
/// apply. `environment` gives the variables (a program passes `std::env::vars()`).
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn load<T: DeserializeOwned>(
    path: Option<&Path>,
    optional: bool,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let (text, shown) = match path {
        None => (String::new(), PathBuf::from("defaults")),
        Some(path) => (read(path, optional)?, path.to_owned()),
    };
    // First the file alone, so that an error has its line.
    let from_file: T = toml::from_str(&text).map_err(|error| ConfigError::File {
        line: error.span().map_or(0, |span| line_of(&text, span.start)),
        path: shown.clone(),
        reason: one_line(error.message()),
    })?;
    let overrides: Vec<(String, String)> =
        environment.filter(|(name, _)| name.starts_with("SAKIMORI_") && name.contains("__")).collect();
    if overrides.is_empty() {
        return Ok(from_file);
    }
    let mut table: Table = toml::from_str(&text).map_err(|error| ConfigError::File {
        line: 0,
        path: shown,
        reason: one_line(error.message()),
    })?;
    let mut checked = from_file;
    for (name, text) in overrides {
        let path = name.trim_start_matches("SAKIMORI_").to_lowercase();
        set(&mut table, &path.split("__").collect::<Vec<_>>(), value(&text));
        checked = Value::Table(table.clone())
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Environment { name, reason: one_line(error.message()) })?;
    }
    Ok(checked)
}

fn read(path: &Path, optional: bool) -> Result<String, ConfigError> {
    let fail = |reason: String| ConfigError::Read { path: path.to_owned(), reason };
    match std::fs::metadata(path) {
        Ok(found) if found.len() > MAX_BYTES => return Err(fail(format!("larger than {MAX_BYTES} bytes"))),
        Ok(_) => {}
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(fail(error.to_string())),
    }
    std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))
}

/// A whole number, a boolean, a list or a quoted text as in TOML; anything else is text.
fn value(text: &str) -> Value {
    toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(table: &mut Table, path: &[&str], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert((*last).to_owned(), value);
        }
        [head, tail @ ..] => {
            let below = table.entry(*head).or_insert_with(|| Value::Table(Table::new()));
            if !below.is_table() {
                *below = Value::Table(Table::new());
            }
            if let Value::Table(below) = below {
                set(below, tail, value);
            }
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        name: String,
        api: Api,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Api {
        port: u16,
    }
    impl Default for Sample {
        fn default() -> Self {
            Self { name: "x".into(), api: Api::default() }
        }
    }
    impl Default for Api {
        fn default() -> Self {
            Self { port: 1 }
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    fn variables(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn defaults_file_and_environment_in_that_order() {
        let file = file("name = \"y\"\n[api]\nport = 2\n");
        let loaded: Sample = load(None, false, variables(&[])).expect("defaults");
        assert_eq!(loaded, Sample::default());
        let loaded: Sample =
            load(Some(file.path()), false, variables(&[("SAKIMORI_API__PORT", "3"), ("HOME", "/")])).expect("valid");
        assert_eq!(loaded, Sample { name: "y".into(), api: Api { port: 3 } });
    }

    #[test]
    fn an_unknown_key_names_file_and_line() {
        let file = file("name = \"y\"\n[api]\nprot = 2\n");
        let error = load::<Sample>(Some(file.path()), false, variables(&[])).expect_err("typo").to_string();
        assert!(error.contains(&format!("{}:3: ", file.path().display())), "{error}");
        assert!(error.contains("prot"), "{error}");
    }

    #[test]
    fn a_wrong_override_names_its_variable() {
        let error = load::<Sample>(None, false, variables(&[("SAKIMORI_API__PORT", "many")])).expect_err("no number");
        assert!(error.to_string().starts_with("environment variable SAKIMORI_API__PORT: "), "{error}");
    }

    #[test]
    fn an_absent_file_is_an_error_unless_optional() {
        let path = Path::new("/nonexistent/sakimori.toml");
        assert!(load::<Sample>(Some(path), false, variables(&[])).is_err());
        assert_eq!(load::<Sample>(Some(path), true, variables(&[])).expect("optional"), Sample::default());
    }
}
