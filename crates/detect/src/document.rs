//! What a program works on: `.` and `%`, without a tree where none is needed.
//!
//! The compiler tells every path that a program reads or writes. Where none of them lies on another (no `.` as a
//! whole, no `.source` beside `.source.ip`, no `.list[0]`), each is a slot of a flat table: writing one moves a
//! value, and the finished event is filled slot by slot. Otherwise, and whenever a path comes that was not told,
//! the document is the tree that VRL knows. Both say the same; a test holds that.

use std::cell::Cell;

use sakimori_model::Event;
use sakimori_model::catalog::{self, Node};
use vrl::compiler::{ProgramInfo, SecretTarget, Target};
use vrl::path::{OwnedSegment, OwnedTargetPath, OwnedValuePath, PathPrefix, parse_value_path};
use vrl::value::{ObjectMap, Value as Vrl};

use crate::record;

/// Places in which the slot of a path is remembered by its address in the program.
const REMEMBERED: usize = 4096;

/// The paths of a program.
#[derive(Debug)]
pub(crate) struct Plan {
    slots: Vec<Slot>,
    is_flat: bool,
}

#[derive(Debug)]
struct Slot {
    path: OwnedValuePath,
    dotted: String,
    node: Option<&'static Node>,
}

impl Plan {
    /// Of a program that is offered these paths.
    pub(crate) fn new(info: &ProgramInfo, offered: &[&str]) -> Self {
        let own = offered.iter().map(|path| parse_value_path(path).expect("a path of ours"));
        let told = info.target_queries.iter().chain(&info.target_assignments);
        let told = told.filter(|path| path.prefix == PathPrefix::Event).map(|path| path.path.clone());
        let mut paths: Vec<OwnedValuePath> = own.chain(told).collect();
        paths.sort_by_cached_key(dotted);
        paths.dedup();
        let is_plain = |path: &OwnedValuePath| {
            !path.segments.is_empty() && path.segments.iter().all(|segment| matches!(segment, OwnedSegment::Field(_)))
        };
        let lies_on = |one: &OwnedValuePath, other: &OwnedValuePath| {
            one.segments.len() != other.segments.len()
                && one.segments.iter().zip(&other.segments).all(|(one, other)| one == other)
        };
        let is_flat =
            paths.iter().all(is_plain) && !paths.iter().any(|one| paths.iter().any(|other| lies_on(one, other)));
        let slots = paths.into_iter().map(|path| Slot { dotted: dotted(&path), node: node(&path), path }).collect();
        Self { slots, is_flat }
    }

    /// The slot of a path.
    fn find(&self, path: &OwnedValuePath) -> Option<usize> {
        self.slots.iter().position(|slot| slot.path == *path)
    }
}

fn dotted(path: &OwnedValuePath) -> String {
    let names = path.segments.iter().map(|segment| match segment {
        OwnedSegment::Field(name) => name.to_string(),
        OwnedSegment::Index(index) => index.to_string(),
    });
    names.collect::<Vec<_>>().join(".")
}

fn node(path: &OwnedValuePath) -> Option<&'static Node> {
    path.segments.iter().try_fold(catalog::tree(), |node, segment| match segment {
        OwnedSegment::Field(name) => node.child(name),
        OwnedSegment::Index(_) => None,
    })
}

/// The document. It is emptied and used again for the next line.
#[derive(Debug)]
pub(crate) struct Document {
    plan: Plan,
    flat: Vec<Option<Vrl>>,
    /// In the place of the slots, where there are none.
    tree: Option<Vrl>,
    metadata: Vrl,
    /// Slots by the address of the path, which the program keeps for as long as it lives. Only a guess: the path
    /// is compared.
    remembered: Vec<Cell<u16>>,
    nothing: Vrl,
}

impl Document {
    /// An empty one.
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            flat: vec![None; plan.slots.len()],
            plan,
            tree: None,
            metadata: Vrl::Object(ObjectMap::new()),
            remembered: vec![Cell::new(0); REMEMBERED],
            nothing: Vrl::Object(ObjectMap::new()),
        }
    }

    /// Empties it.
    pub(crate) fn begin(&mut self, metadata: ObjectMap) {
        self.flat.iter_mut().for_each(|slot| *slot = None);
        self.tree = if self.plan.is_flat { None } else { Some(Vrl::Object(ObjectMap::new())) };
        self.metadata = Vrl::Object(metadata);
    }

    /// Puts a value.
    pub(crate) fn put(&mut self, path: &OwnedValuePath, value: Vrl) {
        match self.place(path) {
            Some(at) => {
                if let Some(slot) = self.flat.get_mut(at) {
                    *slot = Some(value);
                }
            }
            None => {
                self.tree().insert(path, value);
            }
        }
    }

    /// Takes a value out.
    pub(crate) fn take(&mut self, path: &OwnedValuePath) -> Option<Vrl> {
        match self.place(path) {
            Some(at) => self.flat.get_mut(at).and_then(Option::take),
            None if self.tree.is_none() => None,
            None => self.tree().remove(path, true),
        }
    }

    /// A value.
    pub(crate) fn get(&self, path: &OwnedValuePath) -> Option<&Vrl> {
        match (self.place(path), &self.tree) {
            (Some(at), _) => self.flat.get(at)?.as_ref(),
            (None, Some(tree)) => tree.get(path),
            (None, None) => None,
        }
    }

    /// Fills the event with what the program left. `Err` where that is no object.
    pub(crate) fn finish(&mut self, event: &mut Event) -> Result<(), String> {
        if let Some(tree) = self.tree.take() {
            let Vrl::Object(object) = tree else { return Err("the program left no object on `.`".into()) };
            record::fill(event, object);
            return Ok(());
        }
        for (slot, value) in self.plan.slots.iter().zip(&mut self.flat) {
            match (value.take(), slot.node) {
                (None, _) => {}
                (Some(value), Some(node)) => record::known(event, node, &slot.dotted, value),
                (Some(value), None) => event.set_path(&slot.dotted, record::json(value, 0)),
            }
        }
        Ok(())
    }

    /// The slot of a path; none where the document is a tree or the path was not told.
    fn place(&self, path: &OwnedValuePath) -> Option<usize> {
        if self.tree.is_some() {
            return None;
        }
        let remembered = self.remembered.get(Self::address(path))?;
        let guess = usize::from(remembered.get());
        if self.plan.slots.get(guess).is_some_and(|slot| slot.path == *path) {
            return Some(guess);
        }
        let found = self.plan.find(path)?;
        remembered.set(u16::try_from(found).unwrap_or(0));
        Some(found)
    }

    fn address(path: &OwnedValuePath) -> usize {
        let address = std::ptr::from_ref(path) as usize;
        (address >> 3 ^ address >> 13) % REMEMBERED
    }

    /// The document as a tree, from here on.
    fn tree(&mut self) -> &mut Vrl {
        let (slots, flat) = (&self.plan.slots, &mut self.flat);
        self.tree.get_or_insert_with(|| {
            let mut root = Vrl::Object(ObjectMap::new());
            for (slot, value) in slots.iter().zip(flat) {
                if let Some(value) = value.take() {
                    root.insert(&slot.path, value);
                }
            }
            root
        })
    }
}

impl Target for Document {
    fn target_insert(&mut self, path: &OwnedTargetPath, value: Vrl) -> Result<(), String> {
        if path.prefix == PathPrefix::Metadata {
            self.metadata.insert(&path.path, value);
            return Ok(());
        }
        self.put(&path.path, value);
        Ok(())
    }

    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Vrl>, String> {
        if path.prefix == PathPrefix::Metadata {
            return Ok(self.metadata.get(&path.path));
        }
        if self.tree.is_none() && path.path.segments.is_empty() {
            // The runtime asks whether there is a document at all; a program that reads it has a tree.
            return Ok(Some(&self.nothing));
        }
        Ok(self.get(&path.path))
    }

    fn target_get_mut(&mut self, path: &OwnedTargetPath) -> Result<Option<&mut Vrl>, String> {
        if path.prefix == PathPrefix::Metadata {
            return Ok(self.metadata.get_mut(&path.path));
        }
        match self.place(&path.path) {
            Some(at) => Ok(self.flat.get_mut(at).and_then(Option::as_mut)),
            None => Ok(self.tree().get_mut(&path.path)),
        }
    }

    fn target_remove(&mut self, path: &OwnedTargetPath, compact: bool) -> Result<Option<Vrl>, String> {
        if path.prefix == PathPrefix::Metadata {
            return Ok(self.metadata.remove(&path.path, compact));
        }
        match self.place(&path.path) {
            Some(at) => Ok(self.flat.get_mut(at).and_then(Option::take)),
            None => Ok(self.tree().remove(&path.path, compact)),
        }
    }
}

/// There are no secrets.
impl SecretTarget for Document {
    fn get_secret(&self, _key: &str) -> Option<&str> {
        None
    }

    fn insert_secret(&mut self, _key: &str, _value: &str) {}

    fn remove_secret(&mut self, _key: &str) {}
}

/// Is the message what it was?
pub(crate) fn is_text(value: &Vrl, text: &str) -> bool {
    value.as_bytes().is_some_and(|bytes| bytes.as_ref() == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vrl::compiler::{TimeZone, compile, runtime::Runtime};

    /// What a program makes of a message, flat if it can be, or as a tree.
    fn run(program: &str, flat: bool) -> (Event, bool) {
        let program = compile(program, &crate::functions::allowed()).unwrap().program;
        let mut plan = Plan::new(program.info(), &["message"]);
        let was_flat = plan.is_flat;
        plan.is_flat &= flat;
        let mut document = Document::new(plan);
        let mut event = Event::new();
        for _ in 0..2 {
            document.begin(ObjectMap::new());
            document.put(&parse_value_path("message").unwrap(), Vrl::from("a b c"));
            Runtime::default().resolve(&mut document, &program, &TimeZone::Named(crate::Tz::UTC)).unwrap();
            event = Event::new();
            document.finish(&mut event).unwrap();
        }
        (event, was_flat)
    }

    #[test]
    fn flat_and_tree_say_the_same() {
        for (program, flat) in [
            (".source.ip = \"203.0.113.7\"\n.user.name = .message\n.acme.x.y = 1\ntrue", true),
            (".source = { \"ip\": \"203.0.113.7\", \"odd\": 1 }\n.user.name = .source.ip", false),
            (".source = { \"ip\": \"203.0.113.7\", \"odd\": 1 }\ntrue", true),
            (".user.name = \"a\"\ndel(.user.name)\n.user.id = .user.name", true),
            ("if exists(.user.name) { .user.id = \"1\" }\n.user.name = \"a\"", true),
            (". = { \"user\": { \"name\": .message } }\n.user.id = \"1\"", false),
            (".tags[1] = \"b\"\n.tags[0] = \"a\"\ntrue", false),
            ("x = .\n.user.name = x.message", false),
            (".user.name = null\n.\"@timestamp\" = 5\n.message = upcase(string!(.message))", true),
            (".user, err = to_int(.message)\nif err != null { .user = { \"name\": err } }", true),
        ] {
            let (one, was_flat) = run(program, true);
            assert_eq!(was_flat, flat, "{program}");
            assert_eq!(one, run(program, false).0, "{program}");
        }
    }
}
