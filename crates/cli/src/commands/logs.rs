//! `logs parse`: raw log lines as ECS documents, one a line, without a manager.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use sakimori_content::files;
use sakimori_detect::{LineContext, LogSource, Normaliser, Tz};

use super::now;

/// Longest line that is read whole; what is beyond is counted and left out.
const MOST: usize = 1 << 20;
/// Lines that are looked at to tell the source.
const LOOKED_AT: usize = 200;

#[derive(Debug, Subcommand)]
pub enum LogsCommand {
    /// Read log files and print ECS JSON lines
    #[command(after_help = "Examples:\n  sakimori logs parse /var/log/auth.log\n  \
        sakimori logs parse --source nginx/access access.log | jq .source.ip\n  zcat auth.log.1.gz | sakimori logs parse -")]
    Parse {
        /// The files; "-" reads standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Log source; told from the lines where absent
        #[arg(long)]
        source: Option<String>,
        /// Time zone of times without one
        #[arg(long, default_value = "UTC")]
        zone: Tz,
        /// Folder of content whose logs/ are used instead of the built-in ones
        #[arg(long, value_name = "DIR")]
        content: Option<PathBuf>,
    },
}

pub fn run(command: &LogsCommand) -> Result<ExitCode> {
    let LogsCommand::Parse { files, source, zone, content } = command;
    let sources = Sources::load(content.as_deref())?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for path in files {
        let mut lines = Lines::open(path)?;
        let mut normaliser = sources.normaliser(source.as_deref(), path, &lines.look()?)?;
        let name = path.display().to_string();
        while let Some(line) = lines.next()? {
            let context = LineContext {
                zone: *zone,
                file: Some(&name),
                offset: Some(line.offset),
                dropped: line.dropped,
                ..LineContext::at(now())
            };
            let event = normaliser.parse(&line.bytes, &context);
            serde_json::to_writer(&mut out, &event.to_json())?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The log sources of the content.
pub struct Sources {
    /// In the order of their ids.
    pub all: Vec<LogSource>,
}

impl Sources {
    /// Of a folder, or the built-in ones.
    pub fn load(content: Option<&Path>) -> Result<Self> {
        let files = match content {
            Some(dir) => files::read_dir(dir)?,
            None => files::builtin(),
        };
        Self::of(&files)
    }

    /// Of these files.
    pub fn of(files: &BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let (all, errors) = LogSource::load_all(files);
        for error in errors {
            anstream::eprintln!("left out: {error}");
        }
        if all.is_empty() {
            bail!("there is no log source; a content folder has them under logs/<vendor>/<name>/source.yaml");
        }
        Ok(Self { all })
    }

    /// The program for a file: of the source that was named, or of the one that knows most of its first lines.
    pub fn normaliser(&self, named: Option<&str>, path: &Path, first: &[Vec<u8>]) -> Result<Normaliser> {
        let known = || self.all.iter().map(|source| source.id.as_str()).collect::<Vec<_>>().join(", ");
        let source = match named {
            Some(id) => match self.all.iter().find(|source| source.id == id) {
                Some(source) => source,
                None => bail!("there is no log source {id}; known are {}", known()),
            },
            None => {
                let count = |source: &&LogSource| first.iter().filter(|line| source.recognises(line)).count();
                match self.all.iter().map(|source| (count(&source), source)).max_by_key(|(count, _)| *count) {
                    Some((count, source)) if count > 0 => source,
                    _ => {
                        bail!("cannot tell which log {} is; name it with --source, one of {}", path.display(), known())
                    }
                }
            }
        };
        Ok(Normaliser::new(source)?)
    }
}

/// A line of a file.
pub struct Line {
    /// Without its line break.
    pub bytes: Vec<u8>,
    /// Where it begins.
    pub offset: u64,
    /// Bytes that were left out at its end.
    pub dropped: u64,
}

/// The lines of a file, however long they are.
pub struct Lines {
    input: Box<dyn BufRead>,
    offset: u64,
    path: PathBuf,
    ahead: std::collections::VecDeque<Line>,
}

impl Lines {
    /// Opens a file, or standard input for "-".
    pub fn open(path: &Path) -> Result<Self> {
        let input: Box<dyn Read> = if path.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
        };
        Ok(Self {
            input: Box::new(BufReader::with_capacity(1 << 16, input)),
            offset: 0,
            path: path.into(),
            ahead: [].into(),
        })
    }

    /// The first lines, which are still to be read.
    pub fn look(&mut self) -> Result<Vec<Vec<u8>>> {
        while self.ahead.len() < LOOKED_AT {
            match self.read()? {
                Some(line) => self.ahead.push_back(line),
                None => break,
            }
        }
        Ok(self.ahead.iter().map(|line| line.bytes.clone()).collect())
    }

    /// The next line.
    pub fn next(&mut self) -> Result<Option<Line>> {
        match self.ahead.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read(),
        }
    }

    fn read(&mut self) -> Result<Option<Line>> {
        let mut line = Line { bytes: Vec::new(), offset: self.offset, dropped: 0 };
        loop {
            let chunk = self.input.fill_buf().with_context(|| format!("cannot read {}", self.path.display()))?;
            if chunk.is_empty() {
                return Ok((self.offset > line.offset).then_some(line));
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            let room = MOST.saturating_sub(line.bytes.len()).min(part.len());
            line.bytes.extend_from_slice(part.get(..room).unwrap_or_default());
            line.dropped += (part.len() - room) as u64;
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            self.offset += used as u64;
            if end.is_some() {
                if line.bytes.last() == Some(&b'\r') {
                    line.bytes.pop();
                }
                return Ok(Some(line));
            }
        }
    }
}
