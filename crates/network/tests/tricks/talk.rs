//! Packets of one conversation, made by hand: each field can be said, and what is not said is right.

const SERVER: [u8; 4] = [192, 0, 2, 80];
pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;

/// One TCP segment. Numbers count from the first byte of its direction.
#[derive(Clone)]
pub struct Seg {
    pub up: bool,
    pub at: u32,
    /// The default is what the other side has sent.
    pub ack: Option<u32>,
    pub flags: u8,
    pub payload: Vec<u8>,
    pub urgent: u16,
    pub options: Vec<u8>,
    pub bad_sum: bool,
    pub ttl: u8,
}

impl Seg {
    /// Of the client.
    pub fn up(at: u32, payload: &[u8]) -> Self {
        let payload = payload.to_vec();
        Self {
            up: true,
            at,
            ack: None,
            flags: PSH | ACK,
            payload,
            urgent: 0,
            options: Vec::new(),
            bad_sum: false,
            ttl: 64,
        }
    }

    /// Of the server.
    pub fn down(at: u32, payload: &[u8]) -> Self {
        Self { up: false, ..Self::up(at, payload) }
    }

    pub fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    pub fn ack(self, ack: u32) -> Self {
        Self { ack: Some(ack), ..self }
    }

    pub fn options(self, options: &[u8]) -> Self {
        Self { options: options.to_vec(), ..self }
    }
}

/// The conversation so far.
pub struct Talk {
    pub frames: Vec<Vec<u8>>,
    pub client: [u8; 4],
    pub port: u16,
    /// What each side has sent, the client's first.
    pub sent: [u32; 2],
    /// First number of each side.
    pub isn: [u32; 2],
    pub id: u16,
    pub client_port: u16,
}

impl Talk {
    pub fn new(client: [u8; 4], port: u16) -> Self {
        Self { frames: Vec::new(), client, port, sent: [0; 2], isn: [1_000, 9_000], id: 1, client_port: 40_000 }
    }

    /// The handshake.
    pub fn open(&mut self) {
        self.syn(&[]);
        self.seg(&Seg::up(0, b"").flags(ACK));
    }

    /// The first two packets of the handshake, with options in both.
    pub fn syn(&mut self, options: &[u8]) {
        let before_first = u32::MAX;
        self.seg(&Seg::up(before_first, b"").flags(SYN).ack(0).options(options));
        self.seg(&Seg::down(before_first, b"").flags(SYN | ACK).options(options));
    }

    /// The client says something, in one segment, and the server has it.
    pub fn up(&mut self, bytes: &[u8]) {
        self.up_in(bytes, 1_400);
    }

    /// The client says something in segments of a size.
    pub fn up_in(&mut self, bytes: &[u8], size: usize) {
        for part in bytes.chunks(size) {
            self.seg(&Seg::up(self.sent[0], part));
            self.sent[0] += part.len() as u32;
        }
        self.server_has();
    }

    /// The server says something, and the client has it.
    pub fn down(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(1_400) {
            self.seg(&Seg::down(self.sent[1], part));
            self.sent[1] += part.len() as u32;
        }
        self.client_has();
    }

    /// The server acknowledges all.
    pub fn server_has(&mut self) {
        self.seg(&Seg::down(self.sent[1], b"").flags(ACK));
    }

    /// The client acknowledges all.
    pub fn client_has(&mut self) {
        self.seg(&Seg::up(self.sent[0], b"").flags(ACK));
    }

    /// The client has sent so many bytes in all, by segments of its own.
    pub fn reached(&mut self, sent: usize) {
        self.sent[0] = sent as u32;
        self.server_has();
    }

    /// An answer to a request, and the end.
    pub fn served(&mut self) {
        self.down(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        self.close();
    }

    /// Both sides end.
    pub fn close(&mut self) {
        self.seg(&Seg::up(self.sent[0], b"").flags(FIN | ACK));
        self.sent[0] += 1;
        self.seg(&Seg::down(self.sent[1], b"").flags(FIN | ACK));
        self.sent[1] += 1;
        self.client_has();
    }

    /// A segment as an IPv4 packet in a frame.
    pub fn seg(&mut self, seg: &Seg) {
        let packet = self.packet(seg);
        self.ether(0x0800, &packet);
    }

    /// A segment as an IPv4 packet.
    pub fn packet(&mut self, seg: &Seg) -> Vec<u8> {
        let body = self.segment(seg, &self.ends(seg.up));
        self.ipv4(seg.up, 6, 0, seg.ttl, &body)
    }

    /// Addresses in the order of a direction, for a checksum.
    pub fn ends(&self, up: bool) -> Vec<u8> {
        if up { [self.client, SERVER].concat() } else { [SERVER, self.client].concat() }
    }

    /// The bytes of a segment.
    pub fn segment(&self, seg: &Seg, ends: &[u8]) -> Vec<u8> {
        let (own, other) = if seg.up { (0, 1) } else { (1, 0) };
        let (from, to) = if seg.up { (self.client_port, self.port) } else { (self.port, self.client_port) };
        let seq = self.isn[own].wrapping_add(1).wrapping_add(seg.at);
        let ack = self.isn[other].wrapping_add(1).wrapping_add(seg.ack.unwrap_or(self.sent[other]));
        let mut options = seg.options.clone();
        options.resize(options.len().next_multiple_of(4), 1);
        let mut out = [from.to_be_bytes(), to.to_be_bytes()].concat();
        out.extend(seq.to_be_bytes());
        out.extend(if seg.flags & ACK != 0 { ack } else { 0 }.to_be_bytes());
        out.extend([((5 + options.len() / 4) << 4) as u8, seg.flags, 0xfa, 0xf0, 0, 0]);
        out.extend(seg.urgent.to_be_bytes());
        out.extend(&options);
        out.extend(&seg.payload);
        let mut sum = checksum(&pseudo(ends, 6, &out));
        if seg.bad_sum {
            sum ^= 0x5a5a;
        }
        out[16..18].copy_from_slice(&sum.to_be_bytes());
        out
    }

    /// A datagram of the client as an IPv4 packet's body.
    pub fn datagram(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = [self.client_port.to_be_bytes(), self.port.to_be_bytes()].concat();
        out.extend(((8 + payload.len()) as u16).to_be_bytes());
        out.extend([0, 0]);
        out.extend(payload);
        let sum = checksum(&pseudo(&self.ends(true), 17, &out));
        out[6..8].copy_from_slice(&sum.to_be_bytes());
        out
    }

    /// An IPv4 packet; the fragment field is flags and offset.
    pub fn ipv4(&mut self, up: bool, proto: u8, fragment: u16, ttl: u8, body: &[u8]) -> Vec<u8> {
        if fragment == 0 {
            self.id += 1;
        }
        let ends = self.ends(up);
        header4(&ends, proto, self.id, fragment, ttl, &[], body)
    }

    /// An IPv4 packet's body in fragments: (offset in bytes, whether more follow, bytes).
    pub fn fragments(&mut self, proto: u8, parts: &[(usize, bool, Vec<u8>)]) {
        self.id += 1;
        for (offset, more, bytes) in parts {
            let field = (offset / 8) as u16 | if *more { 0x2000 } else { 0 };
            let ends = self.ends(true);
            let packet = header4(&ends, proto, self.id, field, 64, &[], bytes);
            self.ether(0x0800, &packet);
        }
    }

    /// A frame.
    pub fn ether(&mut self, kind: u16, body: &[u8]) {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(kind.to_be_bytes());
        frame.extend(body);
        self.frames.push(frame);
    }
}

/// An IPv4 packet with options, whose length is a multiple of four.
pub fn header4(ends: &[u8], proto: u8, id: u16, fragment: u16, ttl: u8, options: &[u8], body: &[u8]) -> Vec<u8> {
    let length = 20 + options.len();
    let mut out = vec![0x40 | (length / 4) as u8, 0];
    out.extend(((length + body.len()) as u16).to_be_bytes());
    out.extend(id.to_be_bytes());
    out.extend(fragment.to_be_bytes());
    out.extend([ttl, proto, 0, 0]);
    out.extend(ends);
    out.extend(options);
    let sum = checksum(&out);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    out.extend(body);
    out
}

/// What a checksum of TCP or UDP is taken over.
pub fn pseudo(ends: &[u8], proto: u8, body: &[u8]) -> Vec<u8> {
    [ends, &(body.len() as u32).to_be_bytes(), &[0, 0, 0, proto], body].concat()
}

/// The Internet checksum.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut total: u32 = 0;
    for pair in bytes.chunks(2) {
        total += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}
