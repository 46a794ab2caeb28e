//! The state of a TCP connection, as far as inspection needs it.
//!
//! Whether a segment belongs to the connection (numbers, acknowledgements, timestamps) is judged before its bytes
//! are taken; what does not belong is an event and changes nothing.

use super::settings::StreamSettings;
use super::stream::{Stream, ahead};
use crate::app::Dir;
use crate::decode::{Packet, Tcp, tcp_flag};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    SynSent,
    SynRecv,
    Established,
    /// One side has ended.
    HalfClosed,
    /// Both have.
    Closing,
    Closed,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub state: State,
    pub streams: [Stream; 2],
    pub midstream: bool,
    /// The first packet was the server's.
    pub async_seen: bool,
    /// Who is the client and who the server is certain.
    pub sides_known: bool,
    /// Data that came with the SYN.
    pub fast_open: bool,
    pub reset: bool,
    /// Who sent a reset, until the same side goes on.
    reset_by: Option<Dir>,
    /// What a good segment is nevertheless remarkable for.
    pub remark: Option<&'static str>,
}

/// What a segment was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Good,
    /// Does not belong to the connection.
    Bad(&'static str),
}

impl Session {
    /// A connection by its first packet; `None` where it cannot be followed. The flag says that client and server
    /// are the other way round.
    pub(crate) fn open(packet: &Packet<'_>, tcp: &Tcp, settings: &StreamSettings) -> Option<(Self, bool)> {
        let flags = tcp.flags & (tcp_flag::SYN | tcp_flag::ACK | tcp_flag::RST | tcp_flag::FIN);
        let mut session = Self {
            state: State::SynSent,
            streams: [Stream::default(), Stream::default()],
            midstream: false,
            async_seen: false,
            sides_known: false,
            fast_open: false,
            reset: false,
            reset_by: None,
            remark: None,
        };
        let [client, server] = &mut session.streams;
        if flags & tcp_flag::RST != 0 {
            return None;
        }
        if flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN {
            client.start(tcp.seq);
            client.window = tcp.window.into();
            client.scale = tcp.scale.unwrap_or(0);
            client.timestamps = tcp.timestamp.is_some();
            note_timestamp(client, packet.time, tcp);
            session.fast_open = tcp.fast_open == Some(true);
            if session.fast_open {
                client.next_seq = client.next_seq.wrapping_add(packet.payload.len() as u32);
            }
            return Some((session, false));
        }
        if flags & tcp_flag::SYN != 0 {
            if !settings.midstream && !settings.async_one_side {
                return None;
            }
            // The answer came first: its sender is the server.
            server.start(tcp.seq);
            server.window = tcp.window.into();
            server.scale = tcp.scale.unwrap_or(0);
            server.timestamps = tcp.timestamp.is_some();
            client.start(tcp.ack.wrapping_sub(1));
            session.state = State::SynRecv;
            session.midstream = true;
            session.sides_known = true;
            return Some((session, true));
        }
        if !settings.midstream
            || (flags & tcp_flag::FIN != 0 && packet.payload.is_empty())
            || flags & tcp_flag::ACK == 0
        {
            return None;
        }
        client.start(tcp.seq.wrapping_sub(1));
        client.window = tcp.window.into();
        client.scale = 14;
        server.start(tcp.ack.wrapping_sub(1));
        server.scale = 14;
        server.window = 65535;
        session.midstream = true;
        session.state = State::Established;
        client.timestamps = tcp.timestamp.is_some();
        server.timestamps = tcp.timestamp.is_some();
        session.async_seen = settings.async_one_side;
        Some((session, false))
    }

    pub(crate) fn stream(&mut self, dir: Dir) -> &mut Stream {
        let [client, server] = &mut self.streams;
        if dir == Dir::ToServer { client } else { server }
    }

    pub(crate) fn stream_ref(&self, dir: Dir) -> &Stream {
        let [client, server] = &self.streams;
        if dir == Dir::ToServer { client } else { server }
    }

    pub(crate) fn established(&self) -> bool {
        self.state >= State::Established
    }

    /// Judges a segment and moves the state on.
    pub(crate) fn segment(&mut self, dir: Dir, packet: &Packet<'_>, tcp: &Tcp, settings: &StreamSettings) -> Judged {
        let flags = tcp.flags;
        // An answer to a SYN echoes its timestamp.
        let sent = self.stream_ref(Dir::ToServer);
        if self.state == State::SynSent
            && dir == Dir::ToClient
            && flags & tcp_flag::SYN == 0
            && tcp.timestamp.is_some_and(|(_, echo)| !sent.timestamps || echo != sent.last_timestamp)
        {
            return Judged::Bad("stream.pkt_invalid_timestamp");
        }
        if flags & tcp_flag::RST != 0 {
            let judged = self.reset(dir, tcp);
            if judged == Judged::Good && self.state == State::Closed {
                self.reset_by = Some(dir);
            }
            return judged;
        }
        if self.reset_by == Some(dir) {
            // Who reset a connection does not go on with it.
            self.reset_by = None;
            self.remark = Some("stream.suspected_rst_inject");
        }
        if let Err(event) = self.timestamp(dir, packet.time, tcp) {
            return Judged::Bad(event);
        }
        match self.state {
            State::SynSent => self.syn_sent(dir, packet, tcp, settings),
            State::SynRecv => self.syn_recv(dir, packet, tcp, settings),
            State::Closed => self.closed(dir, packet, tcp),
            _ => self.established_segment(dir, packet, tcp, settings),
        }
    }

    fn syn_sent(&mut self, dir: Dir, packet: &Packet<'_>, tcp: &Tcp, settings: &StreamSettings) -> Judged {
        let [client, server] = &mut self.streams;
        match (dir, tcp.flags & (tcp_flag::SYN | tcp_flag::ACK)) {
            (Dir::ToClient, flags) if flags == tcp_flag::SYN | tcp_flag::ACK => {
                let right = tcp.ack == client.isn.wrapping_add(1)
                    || (self.fast_open && ahead(tcp.ack, client.next_seq) <= 0 && ahead(tcp.ack, client.isn) > 0);
                if !right {
                    return Judged::Bad("stream.3whs_synack_with_wrong_ack");
                }
                server.start(tcp.seq);
                server.window = tcp.window.into();
                server.scale = if client.scale > 0 || tcp.scale.is_some() { tcp.scale.unwrap_or(0) } else { 0 };
                client.last_ack = tcp.ack;
                if tcp.timestamp.is_none() {
                    client.timestamps = false;
                }
                server.timestamps = client.timestamps;
                note_timestamp(server, packet.time, tcp);
                self.state = State::SynRecv;
                Judged::Good
            }
            (Dir::ToServer, tcp_flag::SYN) => {
                // Once more; with other numbers it is the newer that counts.
                if tcp.seq != client.isn {
                    client.start(tcp.seq);
                }
                Judged::Good
            }
            (Dir::ToClient, tcp_flag::SYN) => Judged::Good,
            (Dir::ToServer, tcp_flag::ACK) if settings.async_one_side => {
                // Only the client is seen.
                if tcp.seq != client.next_seq {
                    return Judged::Bad("stream.3whs_async_wrong_seq");
                }
                server.start(tcp.ack.wrapping_sub(1));
                server.window = 65535;
                self.async_seen = true;
                self.state = State::Established;
                self.advance(dir, packet, tcp);
                Judged::Good
            }
            (Dir::ToServer, tcp_flag::ACK) if self.fast_open => {
                self.advance(dir, packet, tcp);
                Judged::Good
            }
            _ => Judged::Bad("stream.3whs_wrong_seq_wrong_ack"),
        }
    }

    fn syn_recv(&mut self, dir: Dir, packet: &Packet<'_>, tcp: &Tcp, settings: &StreamSettings) -> Judged {
        let [client, server] = &mut self.streams;
        match (dir, tcp.flags & (tcp_flag::SYN | tcp_flag::ACK)) {
            (Dir::ToServer, tcp_flag::ACK) => {
                if tcp.ack != server.isn.wrapping_add(1) && ahead(tcp.ack, server.next_seq) > 0 {
                    return Judged::Bad("stream.3whs_wrong_seq_wrong_ack");
                }
                if ahead(tcp.ack, server.isn.wrapping_add(1)) < 0 {
                    return Judged::Bad("stream.3whs_ack_data_inject");
                }
                if ahead(tcp.seq, client.next_seq) < 0 && !self.fast_open && !self.midstream {
                    return Judged::Bad("stream.3whs_right_seq_wrong_ack_evasion");
                }
                client.window = tcp.window.into();
                self.state = State::Established;
                self.established_segment(dir, packet, tcp, settings)
            }
            (Dir::ToClient, tcp_flag::ACK) if !packet.payload.is_empty() || self.midstream || self.fast_open => {
                // The handshake's last packet was lost to us; what the server sends proves that it was there.
                let whole = packet.payload.is_empty() && !self.midstream;
                if !whole {
                    self.state = State::Established;
                }
                self.established_segment(dir, packet, tcp, settings)
            }
            (Dir::ToClient, flags) if flags == tcp_flag::SYN | tcp_flag::ACK => {
                if tcp.seq != server.isn {
                    server.start(tcp.seq);
                }
                Judged::Good
            }
            (Dir::ToServer, tcp_flag::SYN) => Judged::Good,
            _ if tcp.flags & tcp_flag::FIN != 0 => self.established_segment(dir, packet, tcp, settings),
            _ => Judged::Bad("stream.3whs_syn_resend_diff_seq_on_syn_recv"),
        }
    }

    fn established_segment(&mut self, dir: Dir, packet: &Packet<'_>, tcp: &Tcp, settings: &StreamSettings) -> Judged {
        if tcp.flags & tcp_flag::SYN != 0 {
            return Judged::Bad(if tcp.flags & tcp_flag::ACK != 0 {
                "stream.est_synack_resend"
            } else {
                "stream.est_syn_resend"
            });
        }
        if self.async_seen && dir == Dir::ToClient {
            // The other side is there after all.
            self.async_seen = false;
            let own = self.stream(dir);
            own.start(tcp.seq.wrapping_sub(1));
        }
        // Receivers take nothing from a segment that acknowledges nothing (RFC 9293, 3.10.7.4).
        if tcp.flags & tcp_flag::ACK == 0 {
            return Judged::Bad("stream.pkt_broken_ack");
        }
        let length = packet.payload.len() as u32;
        let async_one = self.async_seen || settings.async_one_side;
        let midstream = self.midstream;
        let (own, other) = match (&mut self.streams, dir) {
            ([client, server], Dir::ToServer) => (client, server),
            ([client, server], Dir::ToClient) => (server, client),
        };
        let window = other.window.max(1) << other.scale.min(14);
        let end = tcp.seq.wrapping_add(length);
        // Behind everything that was acknowledged: an old packet once more, or a keep-alive.
        if length > 0 && ahead(end, own.last_ack) < 0 && ahead(own.last_ack, end) > 1 << 20 {
            return Judged::Bad("stream.est_packet_out_of_window");
        }
        if length > 0 && !async_one && !midstream && ahead(tcp.seq, own.last_ack.wrapping_add(window.max(65535))) > 0 {
            return Judged::Bad("stream.est_packet_out_of_window");
        }
        if tcp.flags & tcp_flag::ACK != 0 && !async_one && ahead(tcp.ack, other.next_seq) > 0 {
            if midstream || other.gap_seen {
                other.next_seq = tcp.ack;
            } else if ahead(tcp.ack, other.next_seq) > 1 << 20 {
                return Judged::Bad("stream.est_invalid_ack");
            } else if ahead(tcp.ack, other.next_seq.wrapping_add(1)) > 0 {
                // Bytes that we have not seen were acknowledged.
                if ahead(tcp.ack, other.last_ack.wrapping_add((own.window.max(1) << own.scale.min(14)).max(65535))) > 0
                {
                    return Judged::Bad("stream.est_invalid_ack");
                }
                other.next_seq = tcp.ack;
            }
        }
        own.window = tcp.window.into();
        self.advance(dir, packet, tcp);
        if tcp.flags & tcp_flag::FIN != 0 {
            let own = self.stream(dir);
            own.fin = true;
            own.next_seq = own.next_seq.wrapping_add(1);
            self.state = if self.state == State::HalfClosed && self.streams.iter().all(|stream| stream.fin) {
                State::Closing
            } else {
                self.state.max(State::HalfClosed)
            };
        }
        let all = self.streams.iter().all(|stream| stream.fin && ahead(stream.last_ack, stream.next_seq) >= 0);
        if all && self.state == State::Closing {
            self.state = State::Closed;
        }
        Judged::Good
    }

    fn closed(&mut self, dir: Dir, packet: &Packet<'_>, tcp: &Tcp) -> Judged {
        if tcp.flags & tcp_flag::SYN != 0 {
            return Judged::Bad("stream.est_syn_resend");
        }
        self.advance(dir, packet, tcp);
        Judged::Good
    }

    /// Takes numbers and acknowledgement of a good segment.
    fn advance(&mut self, dir: Dir, packet: &Packet<'_>, tcp: &Tcp) {
        let end = tcp.seq.wrapping_add(packet.payload.len() as u32);
        let own = self.stream(dir);
        if ahead(end, own.next_seq) > 0 {
            own.next_seq = end;
        }
        if tcp.flags & tcp_flag::ACK != 0 {
            let other = self.stream(dir.other());
            if ahead(tcp.ack, other.last_ack) > 0 {
                other.last_ack = tcp.ack;
            }
        }
        note_timestamp(self.stream(dir), packet.time, tcp);
    }

    fn reset(&mut self, dir: Dir, tcp: &Tcp) -> Judged {
        let own = self.stream_ref(dir);
        let near = ahead(tcp.seq, own.next_seq).unsigned_abs() <= 1 << 20;
        let plausible = match self.state {
            State::SynSent => {
                tcp.flags & tcp_flag::ACK != 0 && tcp.ack == self.stream_ref(dir.other()).next_seq
                    || dir == Dir::ToServer
            }
            State::SynRecv => near || tcp.seq == 0,
            _ => near,
        };
        if !plausible {
            return Judged::Bad("stream.rst_invalid_ack");
        }
        // A reset that is not at the expected place, while data goes on, was perhaps slipped in.
        let exact = tcp.seq == own.next_seq || tcp.seq == own.last_ack;
        if !exact && self.state >= State::Established {
            self.state = State::Closed;
            self.reset = true;
            return Judged::Good;
        }
        if tcp.flags & tcp_flag::ACK != 0 {
            let other = self.stream(dir.other());
            if ahead(tcp.ack, other.last_ack) > 0 && ahead(tcp.ack, other.next_seq) <= 0 {
                other.last_ack = tcp.ack;
            }
        }
        self.state = State::Closed;
        self.reset = true;
        Judged::Good
    }

    /// Protection against wrapped numbers (RFC 7323): a timestamp goes never back.
    fn timestamp(&mut self, dir: Dir, now: i64, tcp: &Tcp) -> Result<(), &'static str> {
        let own = self.stream(dir);
        let Some((value, _)) = tcp.timestamp else { return Ok(()) };
        if !own.timestamps || own.last_timestamp == 0 || tcp.flags & tcp_flag::SYN != 0 {
            return Ok(());
        }
        let step = ahead(value, own.last_timestamp);
        let old = now - own.last_timestamp_time > 24 * 24 * 3600 * 1_000_000;
        if value != 0 && step < 0 && !old {
            return Err("stream.pkt_invalid_timestamp");
        }
        Ok(())
    }
}

fn note_timestamp(stream: &mut Stream, now: i64, tcp: &Tcp) {
    if let Some((value, _)) = tcp.timestamp
        && (stream.last_timestamp == 0 || ahead(value, stream.last_timestamp) >= 0)
    {
        stream.last_timestamp = value;
        stream.last_timestamp_time = now;
    }
}
