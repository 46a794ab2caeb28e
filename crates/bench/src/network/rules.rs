//! Rules of the kinds that public rule sets are made of, as many as wanted: paths, parameters, headers and bodies of
//! HTTP, names of DNS and TLS. The same number gives the same rules.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Words of which paths and parameters are made, in rules and in traffic alike.
pub(super) const WORDS: [&str; 48] = [
    "account", "admin", "api", "assets", "basket", "blog", "cart", "catalog", "checkout", "config", "content", "css",
    "customer", "data", "detail", "download", "edit", "export", "feed", "file", "form", "gallery", "help", "image",
    "include", "index", "item", "list", "login", "main", "media", "module", "news", "order", "page", "plugin", "price",
    "product", "profile", "report", "search", "session", "static", "theme", "update", "upload", "user", "view",
];

/// The text of a rule file.
pub(super) fn text(count: usize) -> String {
    let mut random = StdRng::seed_from_u64(7);
    let mut out = String::new();
    for sid in 0..count {
        let rule = rule(&mut random);
        let _ = writeln!(out, "alert {rule} classtype:web-application-attack; sid:{}; rev:1;)", 1_000_000 + sid);
    }
    out
}

fn rule(random: &mut StdRng) -> String {
    let mut word = || WORDS.choose(random).copied().unwrap_or("index");
    let (a, b, c) = (word(), word(), word());
    let number: u32 = random.random_range(0..1_000_000);
    let to_server = "http any any -> any any (msg:\"made\"; flow:established,to_server;";
    let to_client = "http any any -> any any (msg:\"made\"; flow:established,to_client;";
    match random.random_range(0..100) {
        0..30 => format!("{to_server} http.uri; content:\"/{a}/{b}-{number}.php\"; nocase;"),
        30..45 => format!(
            "{to_server} http.method; content:\"GET\"; http.uri; content:\"/{a}{number}/\"; \
             content:\"{b}=\"; distance:0; content:!\"{c}\"; within:20;"
        ),
        45..55 => format!(
            "{to_server} http.uri; content:\"{a}_{number}=\"; pcre:\"/{a}_{number}=[^&]*(select|union|{b})/i\";"
        ),
        55..65 => format!("{to_server} http.user_agent; content:\"{a}bot/{number}\"; startswith;"),
        65..75 => {
            format!("{to_server} http.request_body; content:\"{a}[{b}{number}]\"; fast_pattern; content:\"{c}\";")
        }
        75..80 => format!("{to_server} http.header; content:\"X-{a}-{number}|3a 20|\"; content:\"{b}\"; distance:0;"),
        80..88 => format!("{to_client} file.data; content:\"<script>{a}{number}(\"; content:\"{b}\"; within:200;"),
        88..92 => format!("{to_server} http.cookie; content:\"{a}{number}=\"; startswith;"),
        92..96 => format!(
            "dns any any -> any any (msg:\"made\"; dns.query; content:\"{a}-{number}.{b}.example\"; nocase; endswith;"
        ),
        _ => format!(
            "tls any any -> any any (msg:\"made\"; flow:established,to_server; tls.sni; \
             content:\"{a}{number}.{b}.example\"; endswith;"
        ),
    }
}
