//! What HTTP/2 has and HTTP/1 has not: frames, settings, priorities, windows.

use std::borrow::Cow;

use crate::app::Dir;
use crate::app::access::{Look, Value};
use crate::app::http1::{Decoder, HttpTx};
use crate::rules::app_tests::AppTest;
use crate::rules::buffers::Buffer;

/// What a stream has besides its request and answer.
#[derive(Debug, Default)]
pub(crate) struct Http2Info {
    pub frames: [Vec<u8>; 2],
    pub errors: [Vec<u32>; 2],
    pub priorities: [Vec<u8>; 2],
    pub windows: [Vec<u32>; 2],
    pub sizes: [Vec<u64>; 2],
    pub settings: [Vec<(u16, u32)>; 2],
    /// Decoders of what is sent, once it begins.
    pub codings: [Option<Vec<Decoder>>; 2],
}

impl Http2Info {
    /// Bytes that its decoders keep, and itself.
    pub(crate) fn kept(&self) -> usize {
        size_of::<Self>() + self.codings.iter().flatten().flatten().map(Decoder::kept).sum::<usize>()
    }

    /// Buffers that are otherwise than in HTTP/1; `None` for all others.
    pub(crate) fn value(&self, buffer: Buffer, http: &HttpTx, dir: Dir, look: Look<'_>) -> Option<bool> {
        let data: Cow<'_, [u8]> = match buffer {
            Buffer::HttpProtocol => Cow::Borrowed(b"HTTP/2"),
            // There is no text beside the status.
            Buffer::HttpStatMsg => Cow::Borrowed(b""),
            Buffer::Http2HeaderName => {
                let list = &http.headers(dir).list;
                for header in list {
                    if look(Value { data: Cow::Borrowed(&header.name), last: true, file: None }) {
                        break;
                    }
                }
                return Some(!list.is_empty());
            }
            _ => return None,
        };
        look(Value { data, last: true, file: None });
        Some(true)
    }

    pub(crate) fn holds(&self, test: &AppTest, dir: Dir) -> bool {
        let at = dir as usize;
        match test {
            AppTest::Http2FrameType(kind) => self.frames.get(at).is_some_and(|list| list.contains(kind)),
            AppTest::Http2ErrorCode(code) => self.errors.get(at).is_some_and(|list| list.contains(code)),
            AppTest::Http2Priority(wanted) => {
                self.priorities.get(at).is_some_and(|list| list.iter().any(|v| wanted.holds(*v)))
            }
            AppTest::Http2Window(wanted) => {
                self.windows.get(at).is_some_and(|list| list.iter().any(|v| wanted.holds(*v)))
            }
            AppTest::Http2SizeUpdate(wanted) => {
                self.sizes.get(at).is_some_and(|list| list.iter().any(|v| wanted.holds(*v)))
            }
            AppTest::Http2Settings(text) => self.settings.get(at).is_some_and(|list| setting(text, list)),
            _ => false,
        }
    }
}

/// `SETTINGS_ENABLE_PUSH = 1`, with any comparison.
fn setting(text: &str, list: &[(u16, u32)]) -> bool {
    const NAMES: [&str; 6] = [
        "SETTINGS_HEADER_TABLE_SIZE",
        "SETTINGS_ENABLE_PUSH",
        "SETTINGS_MAX_CONCURRENT_STREAMS",
        "SETTINGS_INITIAL_WINDOW_SIZE",
        "SETTINGS_MAX_FRAME_SIZE",
        "SETTINGS_MAX_HEADER_LIST_SIZE",
    ];
    let end = text.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(id) = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name)) else { return false };
    let wanted = (!rest.trim().is_empty()).then(|| crate::rules::number::Compare::<u32>::parse(rest));
    list.iter().filter(|(kind, _)| usize::from(*kind) == id + 1).any(|(_, value)| match &wanted {
        None => true,
        Some(wanted) => wanted.as_ref().is_ok_and(|wanted| wanted.holds(*value)),
    })
}

/// Notes a value of a direction; what a stream may have of them is bounded.
pub(super) fn note<T>(lists: &mut [Vec<T>; 2], at: usize, value: T) {
    if let Some(list) = lists.get_mut(at).filter(|list| list.len() < 64) {
        list.push(value);
    }
}
