//! Values of buffers that are not lying there as they are looked at: transformed, or put together of parts. Each is
//! made once for as long as its transaction stays as it is, whatever the number of rules that look at it.
//!
//! A view is known by its place: the number that loading gave to its buffer and chain of transforms. Memory is used
//! again; what one hostile body has made large is given back.

use crate::app::access::{Look, Value};
use crate::app::{Dir, Tx};
use crate::rules::buffers::Buffer;
use crate::rules::model::NO_PLACE;
use crate::rules::transform::{self, Transform};

/// Bytes that all views together keep for the next ones.
const MOST_KEPT: usize = 4 << 20;
/// Below this nobody counts.
const SMALL: usize = 32 << 10;

/// One value: where it ends in the view's bytes, and what goes with it.
#[derive(Debug)]
struct Part {
    end: usize,
    last: bool,
    /// Its number among the transaction's files.
    file: Option<usize>,
}

#[derive(Debug, Default)]
struct View {
    /// Of which look it is.
    turn: u64,
    there: bool,
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

/// Views of the transaction that is looked at.
#[derive(Debug, Default)]
pub(crate) struct Views {
    turn: u64,
    views: Vec<View>,
    /// For transforms on their way.
    spare: [Vec<u8>; 2],
    large: bool,
}

/// A buffer with what is done to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'r> {
    pub place: u32,
    pub buffer: Buffer,
    pub transforms: &'r [Transform],
}

impl Views {
    /// Another transaction, or the same after a change.
    pub(crate) fn begin(&mut self) {
        self.turn += 1;
        if std::mem::take(&mut self.large) && self.kept() > MOST_KEPT {
            self.views = Vec::new();
            self.spare = [Vec::new(), Vec::new()];
        }
    }

    /// Walks the values of a buffer as [`Tx::values`] does, transformed.
    pub(crate) fn values(&mut self, wanted: Wanted<'_>, tx: &Tx, dir: Dir, look: Look<'_>) -> bool {
        if wanted.place == NO_PLACE {
            return tx.values(wanted.buffer, dir, &mut |value| {
                let data = transform::apply_all(wanted.transforms, &value.data);
                look(Value { data, ..value })
            });
        }
        if wanted.transforms.is_empty() && !wanted.buffer.is_composed() {
            return tx.values(wanted.buffer, dir, look);
        }
        let place = wanted.place as usize;
        if self.views.len() <= place {
            self.views.resize_with(place + 1, View::default);
        }
        let Some(view) = self.views.get_mut(place) else { return false };
        if view.turn != self.turn {
            view.turn = self.turn;
            view.bytes.clear();
            view.parts.clear();
            let spare = &mut self.spare;
            view.there = tx.values(wanted.buffer, dir, &mut |value| {
                transform::append(wanted.transforms, &value.data, &mut view.bytes, spare);
                let files = tx.files(dir);
                let file = value.file.and_then(|file| files.iter().position(|one| std::ptr::eq(one, file)));
                view.parts.push(Part { end: view.bytes.len(), last: value.last, file });
                false
            });
            let spares = self.spare.iter().map(Vec::capacity).max().unwrap_or(0);
            self.large |= view.kept().max(spares) > SMALL;
        }
        let mut start = 0;
        for part in &view.parts {
            let data = view.bytes.get(start..part.end).unwrap_or_default().into();
            let file = part.file.and_then(|at| tx.files(dir).get(at));
            if look(Value { data, last: part.last, file }) {
                break;
            }
            start = part.end;
        }
        view.there
    }

    fn kept(&self) -> usize {
        self.views.iter().map(View::kept).chain(self.spare.iter().map(Vec::capacity)).sum()
    }
}

impl View {
    fn kept(&self) -> usize {
        self.bytes.capacity() + self.parts.capacity() * size_of::<Part>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{File, Kind, Transactions};

    fn seen(views: &mut Views, wanted: Wanted<'_>, tx: &Tx) -> (bool, Vec<(Vec<u8>, bool, bool)>) {
        let mut all = Vec::new();
        let there = views.values(wanted, tx, Dir::ToServer, &mut |value| {
            all.push((value.data.to_vec(), value.last, value.file.is_some()));
            false
        });
        (there, all)
    }

    fn transforms(names: &[&str]) -> Vec<Transform> {
        names.iter().map(|name| Transform::parse(name, None).unwrap().unwrap()).collect()
    }

    #[test]
    fn made_once_for_as_long_as_the_transaction_stays_as_it_is() {
        let mut txs = Transactions::default();
        let tx = txs.open(Kind::Ftp(Box::default()));
        let files = tx.files_mut(Dir::ToServer).unwrap();
        files.extend([File::new(b"a"), File::new(b"b")]);
        files[0].append(b"ONE%20");
        files[1].append(b"TWO");
        let chain = transforms(&["url_decode", "to_lowercase"]);
        let wanted = Wanted { place: 3, buffer: Buffer::FileData, transforms: &chain };
        let mut views = Views::default();
        views.begin();
        let first = (true, vec![(b"one ".to_vec(), false, true), (b"two".to_vec(), false, true)]);
        assert_eq!(seen(&mut views, wanted, tx), first);
        tx.files_mut(Dir::ToServer).unwrap()[0].append(b"MORE");
        assert_eq!(seen(&mut views, wanted, tx), first, "nobody said that it has changed");
        views.begin();
        assert_eq!(seen(&mut views, wanted, tx).1[0].0, b"one more");
        // Others have places of their own, and without one nothing is remembered.
        let upper = transforms(&["to_uppercase"]);
        for place in [0, NO_PLACE] {
            let wanted = Wanted { place, buffer: Buffer::FileData, transforms: &upper };
            assert_eq!(seen(&mut views, wanted, tx).1[1].0, b"TWO");
        }
        let none = Wanted { place: 1, buffer: Buffer::FtpReply, transforms: &upper };
        assert_eq!((seen(&mut views, none, tx), seen(&mut views, none, tx)), ((false, vec![]), (false, vec![])));
    }

    #[test]
    fn large_bodies_leave_no_more_than_is_said() {
        let mut txs = Transactions::default();
        let tx = txs.open(Kind::Ftp(Box::default()));
        tx.files_mut(Dir::ToServer).unwrap().push(File::new(b"a"));
        tx.files_mut(Dir::ToServer).unwrap()[0].append(&vec![b'%'; 1 << 20]);
        let chain = transforms(&["url_decode", "to_lowercase"]);
        let mut views = Views::default();
        for place in 0..40 {
            views.begin();
            for _ in 0..2 {
                seen(&mut views, Wanted { place, buffer: Buffer::FileData, transforms: &chain }, tx);
            }
        }
        views.begin();
        assert!(views.kept() <= MOST_KEPT, "{}", views.kept());
    }
}
