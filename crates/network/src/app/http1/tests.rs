use super::*;
use crate::app::play::play;

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
fn an_endless_line_is_given_up() {
    let mut parser = Http1::new(HttpSettings::default());
    let mut txs = Transactions::default();
    let line = vec![b'a'; 20_000];
    assert_eq!(parser.data(Dir::ToServer, &line, &mut txs), Status::Failed);
}
