//! Messages and services generated from `schemas/proto` (`tests/it/generated.rs` holds them fresh and writes
//! them anew). Use them through `store_api` and `remote_read`.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines, clippy::clone_on_ref_ptr)]

pub mod thanos {
    include!("thanos.rs");

    pub mod info {
        include!("thanos.info.rs");
    }
}

pub mod prometheus {
    include!("prometheus.rs");
}

/// The files of the services, for gRPC reflection.
pub const STORE_API_DESCRIPTORS: &[u8] = include_bytes!("store_api.binpb");
