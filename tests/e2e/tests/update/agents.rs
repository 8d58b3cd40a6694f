//! Real agents under their supervisor.
