//! The query engine's own house: a tokio runtime, a memory pool, a spill directory and a time limit, so that a
//! search can take neither the thread nor the memory of what receives and answers (D7).

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt as _;
use tokio::runtime::Runtime;

use super::table::plain;
use super::{LakeError, LakeOptions};

/// The engine.
pub(crate) struct Engine {
    /// Always there until the drop.
    runtime: Option<Runtime>,
    environment: Arc<RuntimeEnv>,
    threads: usize,
    time_limit: Duration,
    max_result_bytes: usize,
}

/// What a query gave.
pub(crate) struct Collected {
    pub batches: Vec<RecordBatch>,
    /// Were there more rows than asked for?
    pub more: bool,
}

impl Engine {
    pub fn new(options: &LakeOptions) -> Result<Self, LakeError> {
        let threads = options.threads.max(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(threads * 4 + 4)
            .thread_name("lake")
            .enable_all()
            .build()
            .map_err(LakeError::file("start the engine of", &options.dir))?;
        let spill = spill_dir(&options.dir, &options.writer)?;
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![spill]))
            .with_max_temp_directory_size(options.max_spill_bytes);
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(options.query_memory)))
            .with_disk_manager_builder(disk)
            .build_arc()?;
        Ok(Self {
            runtime: Some(runtime),
            environment,
            threads,
            time_limit: options.query_timeout,
            max_result_bytes: options.max_result_bytes,
        })
    }

    /// A fresh session: nothing registered, no table functions, no information schema, no way to set anything.
    pub fn session(&self) -> SessionContext {
        let mut config = SessionConfig::new().with_target_partitions(self.threads).with_information_schema(false);
        let options = config.options_mut();
        options.execution.parquet.schema_force_view_types = false;
        options.execution.parquet.pushdown_filters = true;
        options.execution.collect_statistics = false;
        options.catalog.default_catalog = "lake".into();
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_runtime_env(Arc::clone(&self.environment))
            .with_table_function_list(Vec::new())
            .with_table_factories(std::collections::HashMap::new())
            .build();
        SessionContext::new_with_state(state)
    }

    /// Runs on the engine's own threads, up to the time limit; dropped, it stops.
    pub async fn run<T, F>(&self, work: F) -> Result<T, LakeError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LakeError>> + Send + 'static,
    {
        let limit = self.time_limit;
        self.spawn(async move {
            tokio::time::timeout(limit, work).await.unwrap_or(Err(LakeError::TimedOut(limit.as_secs())))
        })
        .await
    }

    /// Runs on the engine's own threads without a time limit (commits); dropped, it goes on to its end.
    pub async fn finish<T, F>(&self, work: F) -> Result<T, LakeError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LakeError>> + Send + 'static,
    {
        self.handle().spawn(work).await.unwrap_or_else(|error| Err(LakeError::Internal(error.to_string())))
    }

    async fn spawn<T, F>(&self, work: F) -> Result<T, LakeError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LakeError>> + Send + 'static,
    {
        let mut task = StopOnDrop(self.handle().spawn(work));
        (&mut task.0).await.unwrap_or_else(|error| Err(LakeError::Internal(error.to_string())))
    }

    fn handle(&self) -> &tokio::runtime::Handle {
        self.runtime.as_ref().expect("there until the drop").handle()
    }

    /// Most bytes of a result.
    pub fn max_result_bytes(&self) -> usize {
        self.max_result_bytes
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // A runtime may not be dropped where one runs; its threads end by themselves.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct StopOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for StopOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Collects at most this many rows and bytes.
pub(crate) async fn collect(frame: DataFrame, rows: usize, bytes: usize) -> Result<Collected, LakeError> {
    // EXPLAIN must stay the root of its plan; its rows are few.
    let explains = matches!(frame.logical_plan(), LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
    let frame = if explains { frame } else { frame.limit(0, Some(rows.saturating_add(1)))? };
    let mut stream = frame.execute_stream().await?;
    let (mut batches, mut count, mut size) = (Vec::new(), 0, 0);
    while let Some(batch) = stream.next().await {
        let mut batch = batch?;
        count += batch.num_rows();
        size += batch.get_array_memory_size();
        if size > bytes {
            return Err(LakeError::TooLarge(format!("{bytes} bytes")));
        }
        if count > rows {
            batch = batch.slice(0, batch.num_rows() - (count - rows));
        }
        batches.push(batch);
    }
    Ok(Collected { batches, more: count > rows })
}

/// An empty directory for this writer's spilled data; what a crash left there is removed.
fn spill_dir(dir: &Path, writer: &str) -> Result<std::path::PathBuf, LakeError> {
    let spill = dir.join("_spill").join(plain(writer));
    if spill.exists() {
        std::fs::remove_dir_all(&spill).map_err(LakeError::file("empty", &spill))?;
    }
    std::fs::create_dir_all(&spill).map_err(LakeError::file("create", &spill))?;
    Ok(spill)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_query_that_nobody_waits_for_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::new(&LakeOptions::new(dir.path(), "manager-1")).unwrap();
        let (alive, stopped) = tokio::sync::oneshot::channel::<()>();
        let (started, began) = tokio::sync::oneshot::channel();
        let query = engine.run(async move {
            let _alive = alive;
            let _ = started.send(());
            std::future::pending::<Result<(), LakeError>>().await
        });
        tokio::select! {
            _ = query => panic!("it never ends by itself"),
            _ = began => {}
        }
        let ended = tokio::time::timeout(Duration::from_secs(30), stopped).await;
        assert!(ended.expect("it was stopped").is_err(), "what it held is dropped");
    }
}
