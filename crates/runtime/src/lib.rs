//! Config, clock, supervision, telemetry, stop, HTTP client, doctor.
