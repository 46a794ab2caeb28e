//! Adapter to cloud accounts: AWS WAF.
