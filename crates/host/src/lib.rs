//! Adapter to the protected host: enforcers.
