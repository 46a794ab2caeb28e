#![allow(clippy::unwrap_used)]
use sakimori_detect::{LineContext, LogSource, Normaliser, cases};
use sakimori_model::field;
use std::collections::BTreeMap;
use std::path::Path;
#[test]
fn bless() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../content"));
    for folder in std::env::var("FOLDERS").unwrap().split_whitespace() {
        let dir = root.join("logs").join(folder);
        let mut files = BTreeMap::new();
        for f in ["source.yaml", "source.vrl"] {
            files.insert(format!("logs/{folder}/{f}"), std::fs::read(dir.join(f)).unwrap());
        }
        let source = match LogSource::load(&format!("logs/{folder}"), &files) {
            Ok(s) => s,
            Err(e) => {
                println!("{e}");
                continue;
            }
        };
        let t = std::time::Instant::now();
        let mut n = match Normaliser::new(&source) {
            Ok(n) => n,
            Err(e) => {
                println!("{e}");
                continue;
            }
        };
        println!("{folder}: compiled in {:?}", t.elapsed());
        for e in std::fs::read_dir(dir.join("cases")).unwrap() {
            let p = e.unwrap().path();
            if p.extension().is_none_or(|x| x != "log") {
                continue;
            }
            let log = std::fs::read(&p).unwrap();
            let mut out = Vec::new();
            for line in cases::records(&log, &source) {
                let mut ev = n.parse(&line, &LineContext::at(cases::read_at()));
                for f in [
                    field::EVENT_ORIGINAL,
                    field::EVENT_DATASET,
                    field::EVENT_MODULE,
                    field::EVENT_CREATED,
                    field::HOST_NAME,
                    field::SAKIMORI_SOURCE,
                ] {
                    ev.remove(f);
                }
                out.push(serde_json::Value::Object(ev.to_json()));
            }
            let text = out.iter().map(|v| v.to_string()).collect::<Vec<_>>().join(",\n  ");
            std::fs::write(p.with_extension("expected.json"), format!("[\n  {text}\n]\n")).unwrap();
        }
    }
}
