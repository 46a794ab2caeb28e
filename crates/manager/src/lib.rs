//! The control plane: API, agent channel, ingest, jobs.
