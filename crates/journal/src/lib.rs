//! Append-only segment log: the agent's spool and the manager's journal.
