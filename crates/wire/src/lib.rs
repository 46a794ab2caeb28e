//! Messages between processes and machines: protobuf, worker messages, event batches.
