use super::*;
use crate::app::play::play;
use crate::rules::buffers::Buffer;

const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

fn answer(bytes: &[u8]) -> Vec<u8> {
    let txs = play(AppProto::Http1, &[(Dir::ToServer, REQUEST), (Dir::ToClient, bytes)]);
    txs.list.front().and_then(|tx| tx.files(Dir::ToClient).first().map(|file| file.data.clone())).unwrap_or_default()
}

#[test]
fn a_request_and_its_answer() {
    let txs = play(
        AppProto::Http1,
        &[
            (Dir::ToServer, b"POST /%61?b=c HTTP/1.1\r\nHost: EXAMPLE.com:80\r\nX: 1\r\n 2\r\nContent-Le"),
            (Dir::ToServer, b"ngth: 3\r\n\r\nxyzGET /2 HTTP/1.1\r\nHost: b\r\n\r\n"),
            (
                Dir::ToClient,
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            ),
        ],
    );
    let all: Vec<_> = txs
        .list
        .iter()
        .map(|tx| match &tx.kind {
            Kind::Http(http) => http,
            _ => panic!(),
        })
        .collect();
    assert_eq!(all.len(), 2);
    assert_eq!(
        (all[0].uri.as_slice(), all[0].host.as_slice(), all[0].request_body.as_slice()),
        (&b"/a?b=c"[..], &b"example.com"[..], &b"xyz"[..])
    );
    assert_eq!(all[0].request.get(b"x"), Some(&b"1 2"[..]));
    assert_eq!((all[0].status.as_slice(), all[1].status.as_slice()), (&b"200"[..], &b"404"[..]));
    assert!(
        txs.list[0].is_complete(Dir::ToClient) && txs.list[0].events.contains(&"http.invalid_request_field_folding")
    );
}

#[test]
fn chunks_in_odd_forms() {
    assert_eq!(
        answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 3 ;x\r\nabc\r\n02\nde\n0\r\n\r\n"),
        b"abcde"
    );
    assert_eq!(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chu\0nked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), b"abc");
    assert_eq!(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunks at all"), b"no chunks at all");
}

#[test]
fn odd_line_ends_and_no_status_line() {
    assert_eq!(answer(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi"), b"hi");
    assert_eq!(answer(b"HTTP/1.1 200 OK\rContent-Length: 2\r\n\r\nhi"), b"hi");
    assert_eq!(answer(b"no status line\n"), b"no status line\n");
    assert_eq!(answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nbody"), b"body");
    assert_eq!(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more"), b"hi and more");
}

#[test]
fn compressed_bodies() {
    let body = miniz_oxide::deflate::compress_to_vec_zlib(b"secret", 6);
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n".to_vec();
    bytes.extend(&body);
    assert_eq!(answer(&bytes), b"secret");
}

#[test]
fn multipart_files() {
    let body = b"--B\r\nContent-Disposition: form-data; name=a\r\n\r\nvalue\r\n--B\r\nContent-Disposition: form-data; name=f; filename=\"x.txt\"\r\n\r\nline\r\n--B--\r\n";
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    let txs = play(AppProto::Http1, &[(Dir::ToServer, &request)]);
    let files: Vec<_> =
        txs.list[0].files(Dir::ToServer).iter().map(|file| (file.name.clone(), file.data.clone())).collect();
    assert_eq!(files, [(b"x.txt".to_vec(), b"line".to_vec())]);
}

#[test]
fn what_a_long_header_line_takes_is_counted_and_given_back() {
    let mut parser = Http1::new(HttpSettings::default());
    let mut txs = Transactions::default();
    let line = format!("GET / HTTP/1.1\r\nA: {}\r\n", "a".repeat(10_000));
    assert_eq!(parser.data(Dir::ToServer, line.as_bytes(), &mut txs), Status::Going);
    assert_eq!(parser.data(Dir::ToServer, b"B", &mut txs), Status::Going);
    // It is known now that the line is over, but not that it is whole.
    assert!(parser.kept() >= parser.request.buffer.capacity() + 10_000);
    assert_eq!(parser.data(Dir::ToServer, b": b\r\nC: c\r\n\r\n", &mut txs), Status::Going);
    let side = &parser.request;
    assert!(side.spare_line.capacity() <= LARGEST_SPARE && side.open_header.is_none());
}

#[test]
fn an_endless_line_is_given_up() {
    let mut parser = Http1::new(HttpSettings::default());
    let mut txs = Transactions::default();
    let line = vec![b'a'; 20_000];
    assert_eq!(parser.data(Dir::ToServer, &line, &mut txs), Status::Failed);
}

#[test]
fn what_comes_in_any_pieces_is_the_same_and_a_frame_shows_head_and_body() {
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nA: 1\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n  2\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nA: 1\r\n\r\n0123HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n456789",
    ];
    for bytes in answers {
        for length in 1..bytes.len() {
            let pieces = bytes.chunks(length).map(|piece| (Dir::ToClient, piece));
            let talk: Vec<_> = [(Dir::ToServer, REQUEST), (Dir::ToServer, REQUEST)].into_iter().chain(pieces).collect();
            let txs = play(AppProto::Http1, &talk);
            let mut body = Vec::new();
            let mut frames = Vec::new();
            for tx in &txs.list {
                body.extend(tx.files(Dir::ToClient).iter().flat_map(|file| file.data.iter().copied()));
                tx.values(Buffer::FrameHttpResponse, Dir::ToClient, &mut |value| {
                    frames.extend_from_slice(&value.data);
                    false
                });
            }
            assert_eq!(body, b"0123456789", "{length}");
            let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            let whole = if bytes.windows(7).any(|part| part == b"chunked") {
                [&bytes[..head], b"0123456789"].concat()
            } else {
                bytes.to_vec()
            };
            assert_eq!(String::from_utf8_lossy(&frames), String::from_utf8_lossy(&whole), "{length}");
        }
    }
}
