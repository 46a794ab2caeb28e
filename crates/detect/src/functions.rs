//! The functions that a log source's program may call.
//!
//! A program that reads a clock, the environment, the network, a file or chance would make another event of the
//! same line when it is read again, so VRL is compiled with a list of what is allowed and not of what is
//! forbidden (D6): a function that a later version of the crate adds is refused until somebody looked at it.
//! Left out besides: `parse_syslog`, `parse_klog`, `parse_linux_authorization` (they read the clock for the year;
//! the framing `syslog` is ours), `parse_groks` (reads files), `log` (writes), what decompresses (a small line
//! could become a large one), and what needs grammars of its own kind that no source uses.

use vrl::compiler::Function;

/// Identifiers, sorted.
pub const ALLOWED: &[&str] = &[
    "abs",
    "append",
    "array",
    "assert",
    "assert_eq",
    "basename",
    "bool",
    "ceil",
    "chunks",
    "community_id",
    "compact",
    "contains",
    "contains_all",
    "decode_base16",
    "decode_base64",
    "decode_mime_q",
    "decode_percent",
    "decode_punycode",
    "del",
    "dirname",
    "downcase",
    "encode_base16",
    "encode_base64",
    "encode_json",
    "encode_percent",
    "ends_with",
    "exists",
    "filter",
    "find",
    "flatten",
    "float",
    "floor",
    "for_each",
    "format_int",
    "format_number",
    "format_timestamp",
    "from_entries",
    "from_unix_timestamp",
    "get",
    "includes",
    "int",
    "ip_aton",
    "ip_cidr_contains",
    "ip_ntoa",
    "ip_ntop",
    "ip_pton",
    "ip_subnet",
    "ip_to_ipv6",
    "ipv6_to_ipv4",
    "is_array",
    "is_boolean",
    "is_empty",
    "is_float",
    "is_integer",
    "is_ipv4",
    "is_ipv6",
    "is_json",
    "is_null",
    "is_nullish",
    "is_object",
    "is_regex",
    "is_string",
    "is_timestamp",
    "join",
    "keys",
    "length",
    "map_keys",
    "map_values",
    "match",
    "match_any",
    "match_array",
    "merge",
    "mod",
    "object",
    "object_from_array",
    "parse_apache_log",
    "parse_bytes",
    "parse_cef",
    "parse_common_log",
    "parse_csv",
    "parse_duration",
    "parse_float",
    "parse_int",
    "parse_json",
    "parse_key_value",
    "parse_logfmt",
    "parse_query_string",
    "parse_regex",
    "parse_regex_all",
    "parse_timestamp",
    "parse_tokens",
    "parse_url",
    "parse_user_agent",
    "pop",
    "push",
    "range",
    "remove",
    "replace",
    "replace_with",
    "round",
    "set",
    "shannon_entropy",
    "slice",
    "split",
    "split_path",
    "starts_with",
    "string",
    "strip_ansi_escape_codes",
    "strip_whitespace",
    "strlen",
    "tally",
    "tally_value",
    "timestamp",
    "to_bool",
    "to_entries",
    "to_float",
    "to_int",
    "to_regex",
    "to_string",
    "to_syslog_facility",
    "to_syslog_facility_code",
    "to_syslog_level",
    "to_syslog_severity",
    "to_unix_timestamp",
    "truncate",
    "unflatten",
    "unique",
    "unnest",
    "upcase",
    "values",
    "zip",
];

/// The functions of the standard library that are allowed.
pub(crate) fn allowed() -> Vec<Box<dyn Function>> {
    let mut functions = vrl::stdlib::all();
    functions.retain(|function| ALLOWED.binary_search(&function.identifier()).is_ok());
    functions
}

/// Is it a function of the standard library that is not allowed?
pub(crate) fn is_forbidden(name: &str) -> bool {
    ALLOWED.binary_search(&name).is_err() && vrl::stdlib::all().iter().any(|function| function.identifier() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_every_name_is_a_function() {
        let all: Vec<_> = vrl::stdlib::all().iter().map(|function| function.identifier()).collect();
        for pair in ALLOWED.windows(2) {
            assert!(pair[0] < pair[1], "{} is out of order", pair[1]);
        }
        let strangers: Vec<_> = ALLOWED.iter().filter(|name| !all.contains(name)).collect();
        assert!(strangers.is_empty(), "not in this version of VRL: {strangers:?}");
    }

    #[test]
    fn what_reads_more_than_its_arguments_is_not_on_it() {
        for name in [
            "now",
            "log",
            "get_env_var",
            "get_hostname",
            "get_timezone_name",
            "dns_lookup",
            "reverse_dns",
            "http_request",
            "random_bool",
            "random_bytes",
            "random_float",
            "random_int",
            "uuid_v4",
            "uuid_v7",
            "parse_syslog",
            "parse_klog",
            "parse_glog",
            "parse_linux_authorization",
            "parse_groks",
            "parse_etld",
            "parse_proto",
            "validate_json_schema",
            "decode_gzip",
            "decode_zstd",
        ] {
            assert!(ALLOWED.binary_search(&name).is_err(), "{name}");
            assert!(allowed().iter().all(|function| function.identifier() != name), "{name}");
        }
    }
}
