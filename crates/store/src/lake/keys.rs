//! Access keys out of AWS's shared credentials file (`~/.aws/credentials`): sections in brackets, `name = value` below.

use std::path::Path;

use super::LakeError;

/// Largest file, in bytes.
const MOST: u64 = 1 << 20;

/// Keys of one profile. They are printed nowhere.
#[derive(PartialEq, Eq)]
pub(super) struct Keys {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl Keys {
    /// Reads a profile of a file.
    pub fn read(file: &Path, profile: &str) -> Result<Self, LakeError> {
        let read = || {
            if std::fs::metadata(file)?.len() > MOST {
                return Err(std::io::Error::other("it is larger than 1 MiB"));
            }
            std::fs::read_to_string(file)
        };
        let text = read().map_err(LakeError::file("read", file))?;
        let missing = format!("it has no profile [{profile}] with aws_access_key_id and aws_secret_access_key");
        Self::find(&text, profile).ok_or_else(|| LakeError::file("use", file)(std::io::Error::other(missing)))
    }

    fn find(text: &str, profile: &str) -> Option<Self> {
        let (mut inside, mut id, mut secret, mut token) = (false, None, None, None);
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                inside = section.trim() == profile;
            } else if let Some((name, value)) = line.split_once('=').filter(|_| inside) {
                let value = Some(value.trim().to_owned());
                match name.trim() {
                    "aws_access_key_id" => id = value,
                    "aws_secret_access_key" => secret = value,
                    "aws_session_token" => token = value,
                    _ => {}
                }
            }
        }
        Some(Self { id: id?, secret: secret?, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key=se/cr=et\n\n\
        [ events ]\naws_access_key_id=B\nregion = eu-west-1\naws_secret_access_key = s\naws_session_token = t\n[half]\n\
        aws_access_key_id = C\n";

    #[test]
    fn each_profile_has_its_own_keys_and_half_of_them_are_none() {
        let found = Keys::find(FILE, "default").unwrap();
        assert_eq!((found.id.as_str(), found.secret.as_str(), found.token), ("AKIDEXAMPLE", "se/cr=et", None));
        let found = Keys::find(FILE, "events").unwrap();
        assert_eq!((found.id.as_str(), found.secret.as_str(), found.token.as_deref()), ("B", "s", Some("t")));
        assert!(Keys::find(FILE, "half").is_none() && Keys::find(FILE, "other").is_none());
        assert!(Keys::find("]]]=[[\n=\n[default\n", "default").is_none());
    }

    #[test]
    fn an_error_names_file_and_profile_and_no_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), FILE).unwrap();
        let error = Keys::read(file.path(), "half").err().unwrap().to_string();
        assert!(error.contains("[half]") && error.contains(file.path().to_str().unwrap()), "{error}");
        assert!(!error.contains("AKID"), "{error}");
    }
}
