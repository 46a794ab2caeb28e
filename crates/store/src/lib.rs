//! Adapter to control state (SQLite) and the lake (Delta).
