//! What every setting of a policy is: its title in both languages, its kind and its bounds, and whether it can be forgotten.
//!
//! [`SETTINGS`] is the one table; [`schema`] makes JSON Schema (draft 2020-12) of it for forms, the command line a list
//! (`sakimori policy settings`). Defaults are those of [`default_layer`]. A test holds both against each other, so that a
//! setting without a row here does not build.

use serde_json::{Map, Value as Json, json};

use super::default_layer;

/// A setting: a leaf of the policy, or a group of settings.
#[derive(Debug)]
pub struct Setting {
    /// Dotted path.
    pub path: &'static str,
    /// Title in English.
    pub en: &'static str,
    /// Title in Japanese.
    pub ja: &'static str,
    /// What it takes.
    pub kind: Kind,
}

/// What a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Settings of its own.
    Group,
    /// `true` or `false`.
    Truth,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number of this unit, from and to.
    Number(&'static str, u64, u64),
    /// A list of texts, each of which is of this kind.
    Texts(&'static str),
    /// A list of numbers, from and to.
    Numbers(u64, u64),
    /// A list of these settings together.
    Items(&'static [Field]),
    /// Either of several forms, told apart by `answer`.
    Answer,
}

/// A part of an item of a list: name, title in English, title in Japanese, what it takes, must it be there?
pub type Field = (&'static str, &'static str, &'static str, Kind, bool);

const SWITCH: Kind = Kind::Word(&["on", "off"]);
const MODE: Kind = Kind::Word(&["detect", "prevent"]);
const U32: u64 = u32::MAX as u64;
/// The largest number that JSON of a browser keeps exactly.
const EXACT: u64 = (1 << 53) - 1;

const LOGS: &[Field] = &[
    ("name", "Name, unique on the host", "名前（ホスト内で一意）", Kind::Texts(""), true),
    ("source", "Log source, such as linux/auth", "ログソース（例: linux/auth）", Kind::Texts(""), true),
    ("file", "File", "ファイル", Kind::Texts("path"), false),
    ("journal", "Filters of the journal", "ジャーナルの絞り込み", Kind::Texts("list"), false),
    ("zone", "Time zone of times without one", "タイムゾーンのない時刻の解釈", Kind::Texts(""), false),
    ("probe", "Its events are a probe's", "動作確認用のイベント", Kind::Truth, false),
];

const OVERRIDES: &[Field] = &[
    ("rule", "Number of the rule", "ルール番号", Kind::Number("", 0, U32), false),
    ("group", "Group of rules", "ルールグループ", Kind::Texts(""), false),
    ("mode", "What it does", "動作", Kind::Word(&["off", "detect", "prevent"]), true),
];

const SCANS: &[Field] = &[
    ("name", "Name", "名前", Kind::Texts(""), true),
    ("schedule", "When, as five fields of cron", "実行時刻（cron の 5 項目）", Kind::Texts(""), false),
    ("paths", "Files and folders", "ファイルとフォルダー", Kind::Texts("list"), true),
    ("cpu_percent", "Share of a processor", "CPU の割合", Kind::Number("percent", 1, 100), false),
    ("action", "What happens to finds", "検出時の動作", Kind::Word(&["quarantine", "report"]), false),
    ("network", "Network file systems too", "ネットワークファイルシステムも対象", Kind::Truth, false),
    ("if_missed", "When its time was missed", "時刻を逃したとき", Kind::Word(&["run", "skip"]), false),
    ("jitter_minutes", "Put off by up to", "開始をずらす最大時間", Kind::Number("minutes", 0, 1_440), false),
];

macro_rules! settings {
    ($($path:literal $kind:expr, $en:literal $ja:literal;)*) => {
        /// All settings, groups before what is in them.
        pub const SETTINGS: &[Setting] = &[$(Setting { path: $path, en: $en, ja: $ja, kind: $kind }),*];
    };
}

settings! {
    "modules" Kind::Group, "Modules" "モジュール";
    "modules.log_inspection" Kind::Group, "Log inspection" "ログ監視";
    "modules.log_inspection.state" SWITCH, "On or off" "有効・無効";
    "modules.log_inspection.sources" Kind::Items(LOGS), "Logs that are read" "読み取るログ";
    "modules.block_address" Kind::Group, "Blocking addresses" "アドレスの遮断";
    "modules.block_address.state" SWITCH, "On or off" "有効・無効";
    "modules.block_address.mode" MODE, "Act, or only say what it would do" "実行するか記録だけか";
    "modules.block_address.expiry_seconds" Kind::Number("seconds", 0, EXACT), "How long a block lasts" "遮断の長さ";
    "modules.block_address.expiry_most_seconds" Kind::Number("seconds", 0, EXACT), "The longest that a block is prolonged to" "延長を含む遮断の最長";
    "modules.block_address.grace_seconds" Kind::Number("seconds", 0, EXACT), "After an undo, not blocked again for" "取り消し後に再び遮断しない時間";
    "modules.block_address.most_per_minute" Kind::Number("", 0, U32), "Most new blocks a minute" "1 分あたりの新しい遮断の上限";
    "modules.block_address.most" Kind::Number("", 0, U32), "Most blocks at a time" "同時の遮断数の上限";
    "modules.antimalware" Kind::Group, "Malware protection" "マルウェア対策";
    "modules.antimalware.state" SWITCH, "On or off" "有効・無効";
    "modules.antimalware.mode" MODE, "Refuse and quarantine, or only say so" "拒否して隔離するか記録だけか";
    "modules.antimalware.paths" Kind::Texts("path"), "File systems that are protected" "保護するファイルシステム";
    "modules.antimalware.unjudged" Kind::Word(&["open", "closed"]), "A file that nobody can judge" "判定できないファイルの扱い";
    "modules.antimalware.absent" Kind::Answer, "While the agent does not run" "エージェント停止中の扱い";
    "modules.antimalware.max_size_mib" Kind::Number("MiB", 0, EXACT), "Largest file that is judged" "判定するファイルの最大サイズ";
    "modules.antimalware.max_seconds" Kind::Number("seconds", 0, EXACT), "Longest time for one file" "1 ファイルの最長判定時間";
    "modules.antimalware.most_per_minute" Kind::Number("", 0, U32), "Most files quarantined a minute" "1 分あたりの隔離の上限";
    "modules.antimalware.exclude" Kind::Group, "What is left alone" "対象外";
    "modules.antimalware.exclude.paths" Kind::Texts("pattern"), "Paths and names" "パスと名前";
    "modules.antimalware.exclude.extensions" Kind::Texts("ending"), "Ends of names" "拡張子";
    "modules.antimalware.exclude.processes" Kind::Texts("path"), "Programs" "プログラム";
    "modules.antimalware.scans" Kind::Items(SCANS), "Scans" "スキャン";
    "modules.intrusion_prevention" Kind::Group, "Intrusion prevention" "侵入防御";
    "modules.intrusion_prevention.state" SWITCH, "On or off" "有効・無効";
    "modules.intrusion_prevention.mode" MODE, "Drop what rules say to drop, or only record it" "破棄するか記録だけか";
    "modules.intrusion_prevention.overrides" Kind::Items(OVERRIDES), "Rules and groups that differ" "ルールごとの例外設定";
    "modules.intrusion_prevention.trial" Kind::Numbers(0, U32), "Rules on trial" "試行中のルール";
    "modules.intrusion_prevention.interfaces" Kind::Texts("interface"), "Interfaces that are inspected; all where none" "検査するインターフェイス（空ならすべて）";
    "modules.intrusion_prevention.ports" Kind::Numbers(0, 65_535), "Ports that are inspected; all where none" "検査するポート（空ならすべて）";
    "modules.intrusion_prevention.except_ports" Kind::Numbers(0, 65_535), "Own ports that are never inspected" "検査しない自ホストのポート";
    "modules.intrusion_prevention.fail" Kind::Word(&["open", "closed"]), "Packets that nobody can judge" "判定できないパケットの扱い";
    "modules.intrusion_prevention.wait_ms" Kind::Number("milliseconds", 0, U32), "How long packets wait for a worker" "処理の再開を待つ時間";
    "modules.intrusion_prevention.slow_ms" Kind::Number("milliseconds", 0, U32), "How long a worker may be silent" "無応答を許す時間";
    "modules.intrusion_prevention.queues" Kind::Number("", 0, 65_535), "Queues" "キューの数";
    "modules.intrusion_prevention.first_queue" Kind::Number("", 0, 65_535), "Number of the first queue" "最初のキュー番号";
    "modules.intrusion_prevention.mark_bit" Kind::Number("", 0, 29), "Lowest bit of marks that is used" "使うマークの最下位ビット";
    "modules.intrusion_prevention.keep_packets" Kind::Group, "Packets that are kept" "パケットの保存";
    "modules.intrusion_prevention.keep_packets.all" Kind::Truth, "Of every alert" "すべてのアラートについて";
    "modules.intrusion_prevention.keep_packets.groups" Kind::Texts("group"), "Of these groups of rules" "対象のルールグループ";
    "modules.intrusion_prevention.keep_packets.snap_bytes" Kind::Number("bytes", 0, 65_535), "Bytes of each packet" "パケットあたりのバイト数";
    "modules.intrusion_prevention.keep_packets.ring_kib" Kind::Number("KiB", 0, 262_144), "Ring of last packets" "直前パケットのリング";
    "modules.intrusion_prevention.keep_packets.packets" Kind::Number("", 0, 100_000), "Packets of one file" "1 ファイルのパケット数";
    "modules.intrusion_prevention.keep_packets.file_kib" Kind::Number("KiB", 0, 8_192), "Size of one file" "1 ファイルのサイズ";
    "modules.intrusion_prevention.keep_packets.after_seconds" Kind::Number("seconds", 0, 600), "How long after the alert" "アラート後の保存時間";
    "modules.intrusion_prevention.keep_packets.files_per_hour" Kind::Number("", 0, 10_000), "Files of one hour" "1 時間のファイル数";
    "modules.intrusion_prevention.keep_packets.total_mib" Kind::Number("MiB", 0, 102_400), "Size of all files" "全ファイルの合計サイズ";
    "response" Kind::Group, "Answers" "対応";
    "response.allow" Kind::Texts("network"), "Never blocked" "遮断しないアドレス";
    "response.trusted_proxies" Kind::Texts("network"), "Trusted proxies" "信頼するプロキシ";
    "response.playbooks_on" Kind::Texts("playbook"), "Playbooks switched on" "有効にするプレイブック";
    "response.playbooks_off" Kind::Texts("playbook"), "Playbooks switched off" "無効にするプレイブック";
    "response.isolate_host" Kind::Group, "Isolating a host" "ホストの隔離";
    "response.isolate_host.mode" MODE, "Act, or only say what it would do" "実行するか記録だけか";
    "response.isolate_host.expiry_seconds" Kind::Number("seconds", 0, EXACT), "How long an isolation lasts" "隔離の長さ";
    "response.isolate_host.expiry_most_seconds" Kind::Number("seconds", 0, EXACT), "The longest that one may last" "隔離の最長";
    "response.isolate_host.stay" Kind::Truth, "Stay isolated without the manager too" "マネージャーに届かなくても隔離を続ける";
    "response.isolate_host.allow" Kind::Texts("network"), "Networks that pass all the same" "隔離中も通すネットワーク";
    "response.lock_user" Kind::Group, "Locking a user" "ユーザーのロック";
    "response.lock_user.mode" MODE, "Act, or only say what it would do" "実行するか記録だけか";
    "response.lock_user.never_lock" Kind::Texts("user"), "Users that are never locked" "ロックしないユーザー";
    "response.lock_user.most_per_minute" Kind::Number("", 0, U32), "Most users a minute" "1 分あたりの上限";
    "response.never_kill" Kind::Texts("path"), "Programs that are never ended or frozen" "終了・凍結しないプログラム";
    "presence" Kind::Group, "Agents that are away" "エージェントの不在";
    "presence.silent_after_seconds" Kind::Number("seconds", 0, EXACT), "Silent after" "無応答とみなすまで";
    "presence.retire_after_seconds" Kind::Number("seconds", 0, EXACT), "Retired after; 0: never" "退役とみなすまで（0 は無効）";
}

impl Setting {
    /// The setting of this path.
    pub fn find(path: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.path == path)
    }
}

/// JSON Schema of a whole policy. A layer has the same form with any part left out; in one a list may also be an object of
/// `add` and `remove`, and any leaf the word `inherit`.
pub fn schema() -> Json {
    let mut whole = group("Policy", "ポリシー");
    let defaults = Json::Object(default_layer().tree);
    for setting in SETTINGS {
        let mut one = of_kind(setting.kind, setting.en, setting.ja);
        if !matches!(setting.kind, Kind::Group) {
            let default = setting.path.split('.').try_fold(&defaults, |at, name| at.get(name));
            one.insert("default".into(), default.cloned().unwrap_or_default());
        }
        let place = setting.path.split('.').try_fold(&mut whole, |at, name| {
            let below = at.get_mut("properties")?.as_object_mut()?;
            Some(below.entry(name).or_insert_with(|| json!({})).as_object_mut()?)
        });
        if let Some(place) = place {
            *place = one;
        }
    }
    whole.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    Json::Object(whole)
}

fn group(en: &str, ja: &str) -> Map<String, Json> {
    let group = json!({
        "type": "object", "title": en, "x-title-ja": ja, "properties": {}, "additionalProperties": false,
    });
    group.as_object().cloned().unwrap_or_default()
}

fn of_kind(kind: Kind, en: &str, ja: &str) -> Map<String, Json> {
    let form = match kind {
        Kind::Group => return group(en, ja),
        Kind::Truth => json!({"type": "boolean"}),
        Kind::Word(words) => json!({"type": "string", "enum": words}),
        Kind::Number(unit, least, most) => {
            json!({"type": "integer", "minimum": least, "maximum": most, "x-unit": unit})
        }
        Kind::Texts(of) => json!({"type": "array", "items": {"type": "string"}, "x-items": of}),
        Kind::Numbers(least, most) => {
            json!({"type": "array", "items": {"type": "integer", "minimum": least, "maximum": most}})
        }
        Kind::Items(fields) => json!({"type": "array", "items": item(fields)}),
        Kind::Answer => json!({"oneOf": [
            {"properties": {"answer": {"enum": ["open", "closed"]}}, "required": ["answer"]},
            {"properties": {"answer": {"const": "open_after"}, "seconds": {"type": "integer", "minimum": 0, "maximum": U32}},
             "required": ["answer", "seconds"]},
        ]}),
    };
    let mut form = form.as_object().cloned().unwrap_or_default();
    form.insert("title".into(), json!(en));
    form.insert("x-title-ja".into(), json!(ja));
    form
}

/// A part of an item that takes texts takes one, or several where it says so.
fn item(fields: &[Field]) -> Json {
    let mut whole = group("", "");
    let mut must = Vec::new();
    for (name, en, ja, kind, needed) in fields {
        let mut one = of_kind(*kind, en, ja);
        if let Kind::Texts(of) = kind
            && *of != "list"
        {
            one.remove("items");
            one.insert("type".into(), json!("string"));
        }
        if let Some(properties) = whole.get_mut("properties").and_then(Json::as_object_mut) {
            properties.insert((*name).into(), Json::Object(one));
        }
        if *needed {
            must.push(*name);
        }
    }
    // An item may have parts that forms leave alone, as `exclude` of a scan.
    whole.insert("additionalProperties".into(), json!(true));
    whole.insert("required".into(), json!(must));
    Json::Object(whole)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::merge::WHOLE;
    use super::super::{Layer, merge};
    use super::*;

    fn paths(tree: &Map<String, Json>, above: &str, out: &mut BTreeSet<String>) {
        for (name, value) in tree {
            let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            if let (Json::Object(below), false) = (value, WHOLE.contains(&path.as_str())) {
                paths(below, &path, out);
            }
            out.insert(path);
        }
    }

    #[test]
    fn every_setting_of_the_default_policy_has_a_row_and_no_row_is_of_nothing() {
        let mut there = BTreeSet::new();
        paths(&default_layer().tree, "", &mut there);
        let told: BTreeSet<String> = SETTINGS.iter().map(|setting| setting.path.to_owned()).collect();
        assert_eq!(told, there);
        assert_eq!(told.len(), SETTINGS.len(), "one is there twice");
        for setting in SETTINGS {
            assert!(setting.en.is_ascii() && !setting.ja.is_ascii(), "{}", setting.path);
        }
    }

    /// A layer that sets one leaf.
    fn set(path: &str, value: &Json) -> Result<Json, String> {
        let tree = path.rsplit('.').fold(value.clone(), |inner, name| json!({ name: inner }));
        let layer = Layer { name: "tenant".into(), tree: tree.as_object().cloned().expect("an object") };
        let merged = merge(&[default_layer(), layer]).map_err(|error| error.to_string())?;
        let policy = serde_json::to_value(merged.policy).expect("JSON");
        Ok(path.split('.').fold(&policy, |at, name| &at[name]).clone())
    }

    #[test]
    fn what_the_schema_allows_is_taken_and_what_it_forbids_is_not_a_setting() {
        for setting in SETTINGS {
            let good: Vec<Json> = match setting.kind {
                Kind::Group | Kind::Items(_) => continue,
                Kind::Truth => vec![json!(true), json!(false)],
                Kind::Word(words) => words.iter().map(|word| json!(word)).collect(),
                Kind::Number(_, least, most) => vec![json!(least), json!(most)],
                Kind::Texts("path") => vec![json!(["/srv"])],
                Kind::Texts("network") => vec![json!(["192.0.2.0/24"])],
                Kind::Texts(_) => vec![json!(["a"]), json!([])],
                Kind::Numbers(least, most) => vec![json!([least, most])],
                Kind::Answer => vec![json!({"answer": "open"}), json!({"answer": "open_after", "seconds": 3})],
            };
            for value in good {
                assert_eq!(set(setting.path, &value).as_ref(), Ok(&value), "{}", setting.path);
            }
            let bad = match setting.kind {
                Kind::Word(_) => json!("sometimes"),
                Kind::Number(..) => json!(-1),
                Kind::Truth => json!("yes"),
                Kind::Answer => json!({"answer": "never"}),
                _ => json!([{"a": 1}]),
            };
            assert!(set(setting.path, &bad).is_err(), "{}: {bad}", setting.path);
        }
    }

    #[test]
    fn the_schema_has_defaults_bounds_and_both_languages_in_its_place() {
        let schema = schema();
        let most = &schema["properties"]["modules"]["properties"]["block_address"]["properties"]["most"];
        assert_eq!(
            (&most["default"], &most["minimum"], &most["type"]),
            (&json!(200_000), &json!(0), &json!("integer"))
        );
        assert_eq!(most["x-title-ja"], "同時の遮断数の上限");
        let scan = &schema["properties"]["modules"]["properties"]["antimalware"]["properties"]["scans"]["items"];
        assert_eq!(scan["properties"]["name"]["type"], "string");
        assert_eq!(scan["properties"]["paths"]["type"], "array");
        assert_eq!(scan["required"], json!(["name", "paths"]));
    }
}
