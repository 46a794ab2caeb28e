//! Where in a YAML text each value begins, so that an error names its line: the reader that fills structures does not tell.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

/// Deepest nesting that is followed; what is deeper has the place of what holds it.
const MAX_DEPTH: usize = 64;

/// Lines, from 1, by the path of a value: `steps[0].when`.
#[derive(Debug, Default)]
pub struct Places(HashMap<String, usize>);

/// One open mapping or list.
enum Open {
    List { path: String, at: usize },
    Map { path: String, key: Option<String> },
}

impl Places {
    /// Reads the places of a text; of one that is no YAML those before the mistake.
    pub fn of(text: &str) -> Self {
        let mut places = Self::default();
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let line = span.start.line();
            match event {
                Event::Scalar(value, ..) => {
                    if let Some(Open::Map { path, key: key @ None }) = open.last_mut() {
                        // The key's own line stands for the value until that is seen.
                        places.0.insert(join(path, &value), line);
                        *key = Some(value.into_owned());
                        continue;
                    }
                    places.value(&mut open, line);
                }
                Event::Alias(_) => {
                    places.value(&mut open, line);
                }
                Event::SequenceStart(..) | Event::MappingStart(..) => {
                    let path = places.value(&mut open, line);
                    if open.len() >= MAX_DEPTH {
                        break;
                    }
                    open.push(match event {
                        Event::SequenceStart(..) => Open::List { path, at: 0 },
                        _ => Open::Map { path, key: None },
                    });
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                }
                _ => {}
            }
        }
        places
    }

    /// A value begins here: notes its line and gives its path.
    fn value(&mut self, open: &mut [Open], line: usize) -> String {
        let path = match open.last_mut() {
            None => String::new(),
            Some(Open::List { path, at }) => {
                *at += 1;
                format!("{path}[{}]", *at - 1)
            }
            Some(Open::Map { path, key }) => join(path, &key.take().unwrap_or_default()),
        };
        self.0.insert(path.clone(), line);
        path
    }

    /// The line of a value, or of the nearest that holds it.
    pub fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None => return 1,
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_nested_values_blocks_and_what_is_not_there() {
        let places = Places::of("a: 1\nsteps:\n  - action: x\n    when: |\n      y\n  - parallel:\n      - { b: 2 }\n");
        for (path, line) in [("a", 1), ("steps[0]", 3), ("steps[0].when", 5), ("steps[1].parallel[0].b", 7)] {
            assert_eq!(places.line(path), line, "{path}");
        }
        assert_eq!((places.line("steps[1].parallel[3].c"), places.line("zz")), (7, 1));
        assert_eq!(Places::of("a: [1, {").line("a"), 1);
        Places::of(&"[".repeat(10_000));
    }
}
