//! TLS, mail, DNS, FTP and SSH.

use super::talk::Talk;
use super::{Rule, Trick};

macro_rules! mail {
    ($name:literal, $mail:expr) => {
        Trick { area: "SMTP", name: $name, rule: Rule::Mail, play: |talk| mailed(talk, $mail) }
    };
}

pub const TRICKS: &[Trick] = &[
    tls("none", |talk| greeted(talk, &records(&hello(b"evil.example", &[]), 16_384))),
    tls("the hello in records of one byte", |talk| greeted(talk, &records(&hello(b"evil.example", &[]), 1))),
    tls("the hello in two records, the cut in the name", |talk| {
        let hello = hello(b"evil.example", &[]);
        let cut = hello.len() - 6;
        greeted(talk, &records(&hello, cut));
    }),
    tls("the hello's segments of one byte", |talk| {
        talk.open();
        talk.up_in(&records(&hello(b"evil.example", &[]), 16_384), 1);
        talk.down(b"\x15\x03\x03\x00\x02\x02\x28");
        talk.close();
    }),
    tls("the name in mixed case", |talk| greeted(talk, &records(&hello(b"eViL.eXaMpLe", &[]), 16_384))),
    tls("the name behind 3,000 bytes of padding", |talk| {
        let padding = [&[0, 21, 0x0b, 0xb8][..], &[0; 3_000]].concat();
        greeted(talk, &records(&hello(b"evil.example", &padding), 16_384));
    }),
    tls("the name behind padding, in records of 100 bytes", |talk| {
        let padding = [&[0, 21, 0x0b, 0xb8][..], &[0; 3_000]].concat();
        greeted(talk, &records(&hello(b"evil.example", &padding), 100));
    }),
    tls("a record version that there is not", |talk| {
        let mut bytes = records(&hello(b"evil.example", &[]), 16_384);
        bytes[2] = 4;
        greeted(talk, &bytes);
    }),
    tls("a warning before the hello", |talk| {
        let warning = b"\x15\x03\x01\x00\x02\x01\x70";
        greeted(talk, &[&warning[..], &records(&hello(b"evil.example", &[]), 16_384)].concat());
    }),
    tls("on port 80", |talk| {
        talk.port = 80;
        greeted(talk, &records(&hello(b"evil.example", &[]), 16_384));
    }),
    mail!("an attachment in base64", &attached("base64", "ZXZpbC1w\r\nYXlsb2Fk\r\n")),
    mail!("base64 in lines of odd lengths", &attached("base64", "Z\r\nXZ\r\npbC1\r\nwYXlsb\r\n2Fk\r\n")),
    mail!("base64 with letters that are none of it", &attached("base64", "ZXZp!bC1w*Y\tXl sb2 Fk\r\n")),
    mail!(
        "base64 in one line of 900 bytes",
        &attached("base64", &format!("{}ZXZpbC1wYXlsb2Fk\r\n", "AAAA".repeat(220)))
    ),
    mail!("base64 padded in the middle", &attached("base64", "eA==\r\nZXZpbC1wYXlsb2Fk\r\n")),
    mail!("the coding's name in mixed case with a comment", &attached("(x) BaSe64 (y)", "ZXZpbC1wYXlsb2Fk\r\n")),
    mail!("the coding's header over two lines", &attached("\r\n base64", "ZXZpbC1wYXlsb2Fk\r\n")),
    mail!("quoted-printable", &attached("quoted-printable", "e=76il-=\r\npay=6c=6Fad\r\n")),
    mail!(
        "quoted-printable with blanks behind a soft end of line",
        &attached("quoted-printable", "evil-= \t\r\npayload\r\n")
    ),
    mail!("8bit", &attached("8bit", "evil-payload\r\n")),
    mail!("no coding named", &attached("7bit", "evil-payload\r\n")),
    mail!("uuencode in the text", "Subject: a\r\n\r\nbegin 644 x.bin\r\n,979I;\"UP87EL;V%D\r\n`\r\nend\r\n"),
    mail!(
        "multipart in multipart",
        "Content-Type: multipart/mixed; boundary=A\r\n\r\n--A\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Disposition: attachment; filename=x\r\nContent-Transfer-Encoding: base64\r\n\r\nZXZpbC1wYXlsb2Fk\r\n--B--\r\n--A--\r\n"
    ),
    mail!(
        "a mark in quotes on its own line",
        "Content-Type: multipart/mixed;\r\n\tcharset=x;\r\n\tboundary=\"=_A B\"\r\n\r\n--=_A B\r\nContent-Disposition: attachment;\r\n\tfilename=\"x.bin\"\r\nContent-Transfer-Encoding: base64\r\n\r\nZXZpbC1wYXlsb2Fk\r\n--=_A B--\r\n"
    ),
    mail!(
        "the mark's header in capital letters",
        "CONTENT-TYPE: MULTIPART/MIXED; BOUNDARY=A\r\n\r\n--A\r\nCONTENT-DISPOSITION: ATTACHMENT; FILENAME=x\r\nCONTENT-TRANSFER-ENCODING: BASE64\r\n\r\nZXZpbC1wYXlsb2Fk\r\n--A--\r\n"
    ),
    mail!(
        "a mail that ends before its parts do",
        "Content-Type: multipart/mixed; boundary=A\r\n\r\n--A\r\nContent-Disposition: attachment; filename=x\r\nContent-Transfer-Encoding: base64\r\n\r\nZXZpbC1wYXlsb2Fk\r\n"
    ),
    mail!(
        "a whole mail in base64",
        "Content-Type: application/x; name=x.bin\r\nContent-Transfer-Encoding: base64\r\n\r\nZXZpbC1wYXlsb2Fk\r\n"
    ),
    mail!(
        "the file's name encoded",
        "Content-Type: multipart/mixed; boundary=A\r\n\r\n--A\r\nContent-Disposition: attachment; filename=\"=?utf-8?B?eA==?=\"\r\nContent-Transfer-Encoding: base64\r\n\r\nZXZpbC1wYXlsb2Fk\r\n--A--\r\n"
    ),
    mail!(
        "the file's name in RFC 2231",
        "Content-Type: multipart/mixed; boundary=A\r\n\r\n--A\r\nContent-Disposition: attachment; filename*0*=utf-8''a; filename*1=b\r\nContent-Transfer-Encoding: base64\r\n\r\nZXZpbC1wYXlsb2Fk\r\n--A--\r\n"
    ),
    mail!(
        "lines ended by a line feed alone",
        "Content-Type: multipart/mixed; boundary=A\n\n--A\nContent-Disposition: attachment; filename=x\nContent-Transfer-Encoding: base64\n\nZXZpbC1wYXlsb2Fk\n--A--\n"
    ),
    smtp("sent at once, without waiting for replies", |talk| {
        talk.open();
        talk.down(b"220 a ESMTP\r\n");
        let mail = attached("base64", "ZXZpbC1wYXlsb2Fk\r\n");
        talk.up(format!("EHLO a\r\nMAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nDATA\r\n{mail}.\r\nQUIT\r\n").as_bytes());
        talk.down(b"250 a\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n221 bye\r\n");
        talk.close();
    }),
    smtp("by BDAT", |talk| {
        let mail = attached("base64", "ZXZpbC1wYXlsb2Fk\r\n");
        by_bdat(talk, &mail, mail.len());
    }),
    smtp("by BDAT in chunks of 50 bytes", |talk| by_bdat(talk, &attached("base64", "ZXZpbC1wYXlsb2Fk\r\n"), 50)),
    smtp("by BDAT in chunks of 7 bytes", |talk| by_bdat(talk, &attached("8bit", "evil-payload\r\n"), 7)),
    smtp("the second mail of a connection, after RSET", |talk| {
        talk.open();
        talk.down(b"220 a ESMTP\r\n");
        for (said, reply) in [
            ("HELO a\r\n", "250 a\r\n"),
            ("MAIL FROM:<a@a>\r\n", "250 ok\r\n"),
            ("RSET\r\n", "250 ok\r\n"),
            ("mail from:<a@a>\r\n", "250 ok\r\n"),
            ("rcpt to:<b@b>\r\n", "250 ok\r\n"),
            ("data\r\n", "354 go\r\n"),
        ] {
            talk.up(said.as_bytes());
            talk.down(reply.as_bytes());
        }
        talk.up(format!("{}.\r\n", attached("base64", "ZXZpbC1wYXlsb2Fk\r\n")).as_bytes());
        talk.down(b"250 ok\r\n");
        talk.close();
    }),
    smtp("on port 2525", |talk| {
        talk.port = 2_525;
        mailed(talk, &attached("base64", "ZXZpbC1wYXlsb2Fk\r\n"));
    }),
    dns("none", |talk| talk.ask(&question(&[b"evil", b"example"]))),
    dns("the name in mixed case", |talk| talk.ask(&question(&[b"eViL", b"ExAmPlE"]))),
    dns("the second of two questions", |talk| {
        let mut bytes = question(&[b"harmless", b"example"]);
        bytes[5] = 2;
        bytes.extend(b"\x04evil\x07example\0\0\x01\0\x01");
        talk.ask(&bytes);
    }),
    dns("the name's end by a pointer", |talk| {
        let mut bytes = question(&[b"harmless", b"example"]);
        bytes[5] = 2;
        bytes.extend(b"\x04evil\xc0\x15\0\x01\0\x01");
        talk.ask(&bytes);
    }),
    dns("with EDNS", |talk| {
        let mut bytes = question(&[b"evil", b"example"]);
        bytes[11] = 1;
        bytes.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
        talk.ask(&bytes);
    }),
    dns("a datagram in fragments, the last first", |talk| {
        let body = talk.datagram(&question(&[b"evil", b"example"]));
        talk.fragments(17, &[(16, false, body[16..].to_vec()), (0, true, body[..16].to_vec())]);
    }),
    dns("over TCP, segments of one byte", |talk| {
        talk.open();
        talk.up_in(&framed(&question(&[b"evil", b"example"])), 1);
        talk.close();
    }),
    dns("over TCP, the second of two messages", |talk| {
        talk.open();
        talk.up(&[framed(&question(&[b"harmless", b"example"])), framed(&question(&[b"evil", b"example"]))].concat());
        talk.close();
    }),
    dns("a class of its own", |talk| {
        let mut bytes = question(&[b"evil", b"example"]);
        let last = bytes.len() - 1;
        bytes[last] = 3;
        talk.ask(&bytes);
    }),
    Trick {
        area: "FTP",
        name: "a command of one byte a segment",
        rule: Rule::Command,
        play: |talk| {
            logged_in(talk);
            talk.up_in(b"RETR /etc/passwd\r\n", 1);
            talk.down(b"550 no\r\n");
            talk.close();
        },
    },
    Trick {
        area: "FTP",
        name: "a command with its line ended by a line feed alone",
        rule: Rule::Command,
        play: |talk| {
            logged_in(talk);
            talk.up(b"retr /etc/passwd\n");
            talk.down(b"550 no\r\n");
            talk.close();
        },
    },
    Trick {
        area: "SSH",
        name: "the banner in segments of one byte",
        rule: Rule::Software,
        play: |talk| {
            talk.open();
            talk.down(b"SSH-2.0-OpenSSH_9.2\r\n");
            talk.up_in(b"SSH-2.0-evil-ssh x\r\n", 1);
            talk.close();
        },
    },
    Trick {
        area: "SSH",
        name: "on port 443",
        rule: Rule::Software,
        play: |talk| {
            talk.port = 443;
            talk.open();
            talk.up(b"SSH-2.0-evil-ssh\n");
            talk.down(b"SSH-2.0-OpenSSH_9.2\n");
            talk.close();
        },
    },
];

const fn tls(name: &'static str, play: fn(&mut Talk)) -> Trick {
    Trick { area: "TLS", name, rule: Rule::Sni, play }
}

const fn smtp(name: &'static str, play: fn(&mut Talk)) -> Trick {
    Trick { area: "SMTP", name, rule: Rule::Mail, play }
}

const fn dns(name: &'static str, play: fn(&mut Talk)) -> Trick {
    Trick { area: "DNS", name, rule: Rule::Name, play }
}

/// A ClientHello message that asks for a name; extensions come before the name's.
fn hello(name: &[u8], before: &[u8]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let list = sized(&[&[0][..], &sized(name)].concat());
    let extensions = [before, &[0, 0], &sized(&list)].concat();
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &sized(&extensions)].concat();
    [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[0x16, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    message.chunks(size).map(record).collect::<Vec<_>>().concat()
}

fn greeted(talk: &mut Talk, bytes: &[u8]) {
    talk.open();
    talk.up(bytes);
    talk.down(b"\x15\x03\x03\x00\x02\x02\x28");
    talk.close();
}

/// A mail with one attachment.
fn attached(coding: &str, body: &str) -> String {
    format!(
        "Subject: a\r\nContent-Type: multipart/mixed; boundary=\"A\"\r\n\r\n--A\r\nContent-Type: text/plain\r\n\r\nhello\r\n--A\r\n\
         Content-Disposition: attachment; filename=\"x.bin\"\r\nContent-Transfer-Encoding: {coding}\r\n\r\n{body}--A--\r\n"
    )
}

fn addressed(talk: &mut Talk) {
    talk.open();
    talk.down(b"220 a ESMTP\r\n");
    for (said, reply) in
        [("EHLO a\r\n", "250 a\r\n"), ("MAIL FROM:<a@a>\r\n", "250 ok\r\n"), ("RCPT TO:<b@b>\r\n", "250 ok\r\n")]
    {
        talk.up(said.as_bytes());
        talk.down(reply.as_bytes());
    }
}

fn mailed(talk: &mut Talk, mail: &str) {
    addressed(talk);
    talk.up(b"DATA\r\n");
    talk.down(b"354 go\r\n");
    talk.up(format!("{mail}.\r\n").as_bytes());
    talk.down(b"250 ok\r\n");
    talk.up(b"QUIT\r\n");
    talk.down(b"221 bye\r\n");
    talk.close();
}

fn by_bdat(talk: &mut Talk, mail: &str, size: usize) {
    addressed(talk);
    let last = mail.len().div_ceil(size) - 1;
    for (at, part) in mail.as_bytes().chunks(size).enumerate() {
        let end = if at == last { " LAST" } else { "" };
        talk.up(&[format!("BDAT {}{end}\r\n", part.len()).as_bytes(), part].concat());
        talk.down(b"250 ok\r\n");
    }
    talk.close();
}

fn logged_in(talk: &mut Talk) {
    talk.open();
    talk.down(b"220 ftp\r\n");
    talk.up(b"USER a\r\n");
    talk.down(b"331 more\r\n");
    talk.up(b"PASS a\r\n");
    talk.down(b"230 in\r\n");
}

fn question(labels: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        out.push(label.len() as u8);
        out.extend(*label);
    }
    out.extend([0, 0, 1, 0, 1]);
    out
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

impl Talk {
    fn ask(&mut self, message: &[u8]) {
        let body = self.datagram(message);
        let packet = self.ipv4(true, 17, 0, 64, &body);
        self.ether(0x0800, &packet);
    }
}
