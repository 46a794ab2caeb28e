//! Engine: record to ECS (VRL), ECS to Sigma to correlation to alert.
