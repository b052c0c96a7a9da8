//! `perennial sql-view`: views for SQL engines.

use clap::{Args, ValueEnum};

use super::compose::Base;
use super::flags::CommonArgs;
use super::{Failure, print_line};
use crate::block::{SqlFile, duckdb_views};
use crate::bucket::ObjectKey;
use crate::model::{ErrorKind, Resolution, TenantId};

/// SQL engines that views are written for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Engine {
    /// DuckDB 1.3 and later.
    Duckdb,
}

/// Flags of `sql-view`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  perennial sql-view --engine duckdb --tenant default-tenant > views.sql\n  \
duckdb -init views.sql\n\nThe views name the files of the newest catalog version. Print them again to see newer blocks."
)]
pub(super) struct SqlViewArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// SQL engine.
    #[arg(long, value_enum)]
    engine: Engine,
    /// Tenant whose samples the views show.
    #[arg(long, value_name = "TENANT")]
    tenant: TenantId,
}

pub(super) async fn run(args: SqlViewArgs) -> Result<(), Failure> {
    args.common.start_logging();
    let base = Base::inspect(&args.common).await?;
    let newest = base.catalogs.of(&args.tenant).newest(None).await?.ok_or_else(|| {
        let message = format!(
            "tenant {} has no blocks in this bucket: check --tenant and --objstore.config",
            args.tenant
        );
        Failure::new(ErrorKind::NotFound, message)
    })?;
    let blocks = newest.blocks().await?;
    let files: Vec<SqlFile> = blocks
        .iter()
        .filter(|block| block.resolution == Resolution::Raw)
        .map(|block| SqlFile {
            kind: block.kind.clone(),
            path: base.bucket.locate(&ObjectKey::block(&args.tenant, block.id)),
            range: block.range(),
            label_columns: block.label_columns.clone(),
        })
        .collect();
    match args.engine {
        Engine::Duckdb => print_line(duckdb_views(&files, &newest.version().label_columns)),
    }
    Ok(())
}
