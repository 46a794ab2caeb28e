//! Actions, ledger and playbooks against ports.
