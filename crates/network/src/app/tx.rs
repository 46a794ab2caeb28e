//! Transactions of a flow.

use std::collections::VecDeque;

use super::dns::DnsTx;
use super::files::File;
use super::ftp::{FtpDataTx, FtpTx};
use super::http1::HttpTx;
use super::http2::Http2Info;
use super::smtp::SmtpTx;
use super::ssh::SshTx;
use super::tls::TlsTx;
use super::{AppProto, Dir};

/// Most events that one transaction keeps.
const MOST_EVENTS: usize = 32;
/// Most transactions that are open at once.
pub(crate) const MOST_OPEN: usize = 1024;

/// What a protocol keeps of a transaction.
#[derive(Debug)]
pub(crate) enum Kind {
    Http(Box<HttpTx>),
    Http2(Box<HttpTx>, Box<Http2Info>),
    Dns(Box<DnsTx>),
    Tls(Box<TlsTx>),
    Ssh(Box<SshTx>),
    Smtp(Box<SmtpTx>),
    Ftp(Box<FtpTx>),
    FtpData(Box<FtpDataTx>),
}

/// What detection remembers of a transaction in one direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct TxState {
    /// Rules that may still match, with the buffers that matched already.
    pub open: Vec<(u32, u64)>,
    /// Rules that matched or cannot match any more, in order.
    pub done: Vec<u32>,
    /// How much of each buffer the prefilter has seen, by their place among its matchers.
    pub seen: Vec<Seen>,
    pub begun: bool,
    /// The transaction's version that was looked at last.
    pub version: u64,
    /// All was looked at.
    pub finished: bool,
}

/// How much of a buffer was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// So many bytes of one that grows at its end; of others none.
    Part(u32),
    /// Its last form.
    All,
}

/// One transaction.
#[derive(Debug)]
pub(crate) struct Tx {
    pub id: u64,
    /// Stage reached in either direction; what a stage means is the protocol's.
    pub stage: [u8; 2],
    /// Nothing more comes in a direction.
    pub complete: [bool; 2],
    pub events: Vec<&'static str>,
    pub files: [Vec<File>; 2],
    pub kind: Kind,
    pub state: [TxState; 2],
    /// Grows with every change, by direction.
    pub version: [u64; 2],
}

impl Tx {
    pub(crate) fn reach(&mut self, dir: Dir, stage: u8) {
        if let Some(known) = self.stage.get_mut(dir as usize) {
            *known = (*known).max(stage);
        }
        self.touch(dir);
    }

    pub(crate) fn touch(&mut self, dir: Dir) {
        if let Some(version) = self.version.get_mut(dir as usize) {
            *version += 1;
        }
    }

    pub(crate) fn stage(&self, dir: Dir) -> u8 {
        self.stage.get(dir as usize).copied().unwrap_or(0)
    }

    pub(crate) fn finish(&mut self, dir: Dir) {
        self.reach(dir, 5);
        if let Some(complete) = self.complete.get_mut(dir as usize) {
            *complete = true;
        }
        self.close_files(dir, false);
    }

    pub(crate) fn is_complete(&self, dir: Dir) -> bool {
        self.complete.get(dir as usize).copied().unwrap_or(true)
    }

    pub(crate) fn files(&self, dir: Dir) -> &[File] {
        self.files.get(dir as usize).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn files_mut(&mut self, dir: Dir) -> Option<&mut Vec<File>> {
        self.files.get_mut(dir as usize)
    }

    fn close_files(&mut self, dir: Dir, cut: bool) {
        for file in self.files.get_mut(dir as usize).into_iter().flatten() {
            file.close(cut);
        }
    }

    /// Bytes that it keeps: what its sender can make large, and an allowance for the rest.
    fn kept(&self) -> usize {
        let files = self.files.iter().flatten().map(|file| size_of::<File>() + file.name.len() + file.data.capacity());
        let states = self.state.iter().map(|state| {
            state.open.capacity() * 16 + state.done.capacity() * 4 + state.seen.capacity() * size_of::<Seen>()
        });
        let kind = match &self.kind {
            Kind::Http(http) => http.kept(),
            Kind::Http2(http, info) => http.kept() + info.kept(),
            Kind::Dns(dns) => dns.kept(),
            Kind::Tls(_) | Kind::Ssh(_) | Kind::Smtp(_) | Kind::Ftp(_) | Kind::FtpData(_) => 4096,
        };
        size_of::<Self>() + kind + files.sum::<usize>() + states.sum::<usize>()
    }

    /// Notes an anomaly.
    pub(crate) fn event(&mut self, name: &'static str) {
        if self.events.len() < MOST_EVENTS && !self.events.contains(&name) {
            self.events.push(name);
        }
        self.touch(Dir::ToServer);
        self.touch(Dir::ToClient);
    }

    pub(crate) fn proto(&self) -> AppProto {
        match self.kind {
            Kind::Http(_) => AppProto::Http1,
            Kind::Http2(..) => AppProto::Http2,
            Kind::Dns(_) => AppProto::Dns,
            Kind::Tls(_) => AppProto::Tls,
            Kind::Ssh(_) => AppProto::Ssh,
            Kind::Smtp(_) => AppProto::Smtp,
            Kind::Ftp(_) => AppProto::Ftp,
            Kind::FtpData(_) => AppProto::FtpData,
        }
    }
}

/// Open transactions of a flow, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    pub list: VecDeque<Tx>,
    next: u64,
    /// Transactions that had to be given up.
    pub lost: u64,
}

impl Transactions {
    /// Opens a transaction; when too many are open, the oldest is given up.
    pub(crate) fn open(&mut self, kind: Kind) -> &mut Tx {
        if self.list.len() >= MOST_OPEN {
            self.list.pop_front();
            self.lost += 1;
        }
        let id = self.next;
        self.next += 1;
        self.list.push_back(Tx {
            id,
            stage: [0; 2],
            complete: [false; 2],
            events: Vec::new(),
            files: [Vec::new(), Vec::new()],
            kind,
            state: [TxState::default(), TxState::default()],
            version: [1; 2],
        });
        let last = self.list.len() - 1;
        self.list.get_mut(last).unwrap_or_else(|| unreachable!("one was just added"))
    }

    pub(crate) fn get(&mut self, id: u64) -> Option<&mut Tx> {
        let first = self.list.front()?.id;
        // Ids are in order, with holes where a finished one was taken out of the middle.
        let guess = usize::try_from(id.checked_sub(first)?).ok()?;
        if self.list.get(guess).is_some_and(|tx| tx.id == id) {
            return self.list.get_mut(guess);
        }
        let at = self.list.binary_search_by_key(&id, |tx| tx.id).ok()?;
        self.list.get_mut(at)
    }

    /// How many are complete in a direction, those that were given up too.
    pub(crate) fn completed(&self, dir: Dir) -> u64 {
        self.lost + self.list.iter().filter(|tx| tx.is_complete(dir)).count() as u64
    }

    /// Other rules: what those before noted, by their numbers, means something else to them.
    pub(crate) fn look_again(&mut self) {
        for state in self.list.iter_mut().flat_map(|tx| &mut tx.state) {
            *state = TxState { finished: state.finished, ..TxState::default() };
        }
    }

    /// Bytes that they keep.
    pub(crate) fn kept(&self) -> usize {
        let room = (self.list.capacity() - self.list.len()) * size_of::<Tx>();
        room + self.list.iter().map(Tx::kept).sum::<usize>()
    }

    pub(crate) fn last(&mut self) -> Option<&mut Tx> {
        self.list.back_mut()
    }
}
