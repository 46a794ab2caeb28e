//! Where the table lies: a folder on this machine's disk, or a bucket of S3 or of what speaks its protocol.
//!
//! What is written here is durable when the call returns: on disk after file and folder are synced, in a bucket once the
//! store has answered. A commit needs an atomic "create, unless it is there": a hard link on disk, `If-None-Match: *` in
//! a bucket (Amazon S3 has it since 2024, MinIO, Ceph and R2 have it). Nothing else is needed for that, no table in
//! DynamoDB and no lock.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use deltalake_core::logstore::{
    LogStore, LogStoreFactory, ObjectStoreRef, StorageConfig, default_logstore, logstore_factories,
};
use deltalake_core::{DeltaResult, DeltaTable, DeltaTableBuilder, ensure_table_uri};
use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig};
use url::Url;

use super::LakeError;
use super::keys::Keys;

/// How long one request may take, the answer's body included.
const REQUEST: Duration = Duration::from_secs(300);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request that fails is tried again, and how often.
const AGAIN: Duration = Duration::from_secs(60);
const TIMES: usize = 6;

/// A place in a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// `s3://bucket/prefix`.
    pub url: String,
    /// Where the protocol is spoken, where that is not Amazon: `https://minio.example:9000`.
    pub endpoint: Option<String>,
    /// The bucket's region; `AWS_REGION` where absent.
    pub region: Option<String>,
    /// A shared credentials file of AWS and the profile in it. Where absent, keys come from the environment
    /// (`AWS_ACCESS_KEY_ID`, a web identity, a container's role) or the machine's role.
    pub credentials: Option<(PathBuf, String)>,
}

#[derive(Clone)]
pub(crate) enum Place {
    Disk(PathBuf),
    Bucket(Bucket),
}

#[derive(Clone)]
pub(crate) struct Bucket {
    url: Url,
    /// Of the bucket.
    root: Arc<dyn ObjectStore>,
    /// Of the table.
    store: Arc<dyn ObjectStore>,
}

impl Place {
    /// A folder, which is made where it is absent, or a bucket, of which nothing is asked yet.
    pub fn open(dir: &Path, bucket: Option<&BucketOptions>) -> Result<Self, LakeError> {
        match bucket {
            Some(options) => Ok(Self::Bucket(Bucket::open(options)?)),
            None => {
                fs::create_dir_all(dir).map_err(LakeError::file("create", dir))?;
                Ok(Self::Disk(dir.canonicalize().map_err(LakeError::file("open", dir))?))
            }
        }
    }

    /// The table here, not loaded.
    pub fn table(&self) -> Result<DeltaTable, LakeError> {
        let builder = match self {
            Self::Disk(dir) => {
                let url = ensure_table_uri(dir.to_string_lossy()).map_err(LakeError::table("name"))?;
                DeltaTableBuilder::from_url(url).map_err(LakeError::table("open"))?
            }
            Self::Bucket(bucket) => DeltaTableBuilder::from_url(bucket.url.clone())
                .map_err(LakeError::table("open"))?
                .with_storage_backend(Arc::clone(&bucket.root), bucket.url.clone()),
        };
        builder.build().map_err(LakeError::table("open"))
    }

    /// Writes a new file.
    pub async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), LakeError> {
        match self {
            Self::Disk(dir) => {
                let (dir, name) = (dir.clone(), name.to_owned());
                super::blocking(move || write_durably(&dir, &name, &bytes)).await
            }
            Self::Bucket(bucket) => {
                let put = bucket.store.put(&key(name)?, bytes.into()).await;
                put.map(drop).map_err(LakeError::store("write", name))
            }
        }
    }

    /// A file's bytes.
    pub async fn read(&self, name: &str) -> Result<Bytes, LakeError> {
        match self {
            Self::Disk(dir) => {
                let path = dir.join(name);
                super::blocking(move || fs::read(&path).map(Bytes::from).map_err(LakeError::file("read", &path))).await
            }
            Self::Bucket(bucket) => {
                let found = bucket.store.get(&key(name)?).await.map_err(LakeError::store("read", name))?;
                found.bytes().await.map_err(LakeError::store("read", name))
            }
        }
    }

    /// Data files of the table and beside it, with the second of their last change.
    pub async fn data_files(&self) -> Result<Vec<(PathBuf, i64)>, LakeError> {
        match self {
            Self::Disk(dir) => {
                let dir = dir.clone();
                super::blocking(move || parquet_files(&dir)).await
            }
            Self::Bucket(bucket) => {
                let all = bucket.store.list(None).try_collect::<Vec<_>>().await;
                let all = all.map_err(LakeError::store("list", bucket.url.as_str()))?;
                let data = all.into_iter().filter(|one| {
                    let name = one.location.as_ref();
                    name.ends_with(".parquet") && !name.starts_with("_delta_log/")
                });
                Ok(data.map(|one| (PathBuf::from(one.location.as_ref()), one.last_modified.timestamp())).collect())
            }
        }
    }

    /// Deletes a file; false where it is gone already.
    pub async fn delete(&self, name: &str) -> Result<bool, LakeError> {
        match self {
            Self::Disk(dir) => {
                let path = dir.join(name);
                super::blocking(move || match fs::remove_file(&path) {
                    Ok(()) => Ok(true),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                    Err(error) => Err(LakeError::file("delete", &path)(error)),
                })
                .await
            }
            Self::Bucket(bucket) => match bucket.store.delete(&key(name)?).await {
                Ok(()) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(LakeError::store("delete", name)(error)),
            },
        }
    }

    /// Makes the log of the table's version durable.
    pub async fn sync_log(&self, table: &DeltaTable) -> Result<(), LakeError> {
        let Self::Disk(dir) = self else { return Ok(()) };
        let (dir, version) = (dir.clone(), table.version());
        super::blocking(move || sync_log(&dir, version)).await
    }
}

impl Bucket {
    fn open(options: &BucketOptions) -> Result<Self, LakeError> {
        // What stands before an @ may be a key.
        let shown = options.url.rsplit('@').next().unwrap_or_default().to_owned();
        let wrong = |reason: String| LakeError::Address(shown.clone(), reason);
        let url = Url::parse(options.url.trim_end_matches('/')).map_err(|error| wrong(error.to_string()))?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if url.scheme() != "s3" || url.host_str().is_none() || !plain {
            return Err(wrong(
                "expected s3://bucket/prefix; keys come from the environment or the machine's role".into(),
            ));
        }
        register();
        let client = ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(CONNECT);
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(url.host_str().unwrap_or_default())
            // What arrives is what was sent, or it is refused.
            .with_checksum_algorithm(Checksum::SHA256)
            .with_retry(RetryConfig { max_retries: TIMES, retry_timeout: AGAIN, ..RetryConfig::default() });
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        if let Some((file, profile)) = &options.credentials {
            let keys = Keys::read(file, profile)?;
            builder = builder.with_access_key_id(keys.id).with_secret_access_key(keys.secret);
            if let Some(token) = keys.token {
                builder = builder.with_token(token);
            }
        }
        // Keys are sent in no clear text but to this machine or where somebody names it so.
        builder = match &options.endpoint {
            Some(endpoint) => builder
                .with_endpoint(endpoint.trim_end_matches('/'))
                .with_client_options(client.with_allow_http(endpoint.starts_with("http://"))),
            None => builder.with_client_options(client),
        };
        let root: Arc<dyn ObjectStore> = Arc::new(builder.build().map_err(|error| wrong(error.to_string()))?);
        let prefix = Key::from_url_path(url.path()).map_err(|error| wrong(error.to_string()))?;
        let store = Arc::new(PrefixStore::new(Arc::clone(&root), prefix));
        Ok(Self { url, root, store })
    }
}

/// Lets the table's library commit to buckets by conditional puts.
fn register() {
    struct ByConditionalPut;
    impl LogStoreFactory for ByConditionalPut {
        fn with_options(
            &self,
            prefixed: ObjectStoreRef,
            root: ObjectStoreRef,
            location: &Url,
            options: &StorageConfig,
        ) -> DeltaResult<Arc<dyn LogStore>> {
            Ok(default_logstore(prefixed, root, location, options))
        }
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Ok(scheme) = Url::parse("s3://") {
            logstore_factories().insert(scheme, Arc::new(ByConditionalPut));
        }
    });
}

fn key(name: &str) -> Result<Key, LakeError> {
    Key::parse(name).map_err(|error| LakeError::Internal(error.to_string()))
}

fn write_durably(root: &Path, name: &str, bytes: &[u8]) -> Result<(), LakeError> {
    let path = root.join(name);
    let folder = path.parent().map_or_else(|| root.to_owned(), Path::to_owned);
    create_durably(root, &folder)?;
    let mut file = File::create_new(&path).map_err(LakeError::file("create", &path))?;
    file.write_all(bytes).map_err(LakeError::file("write", &path))?;
    file.sync_all().map_err(LakeError::file("make durable", &path))?;
    sync_dir(&folder)
}

fn sync_log(dir: &Path, version: Option<u64>) -> Result<(), LakeError> {
    let log = dir.join("_delta_log");
    if let Some(version) = version {
        for name in
            [format!("{version:020}.json"), format!("{version:020}.checkpoint.parquet"), "_last_checkpoint".into()]
        {
            let path = log.join(name);
            match File::open(&path) {
                Ok(file) => file.sync_all().map_err(LakeError::file("make durable", &path))?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(LakeError::file("open", &path)(error)),
            }
        }
    }
    sync_dir(&log)?;
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<(), LakeError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(LakeError::file("make durable", dir))
}

/// Creates what lies between, and makes each new name durable in its parent.
fn create_durably(root: &Path, folder: &Path) -> Result<(), LakeError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(LakeError::file("create", folder))?;
    let mut at: PathBuf = folder.to_owned();
    while at != *root && at.pop() {
        sync_dir(&at)?;
    }
    Ok(())
}

pub(super) fn parquet_files(dir: &Path) -> Result<Vec<(PathBuf, i64)>, LakeError> {
    let mut found = Vec::new();
    let mut folders = BTreeSet::from([dir.to_owned()]);
    while let Some(folder) = folders.pop_first() {
        for entry in fs::read_dir(&folder).map_err(LakeError::file("read", &folder))? {
            let path = entry.map_err(LakeError::file("read", &folder))?.path();
            let data = fs::symlink_metadata(&path).map_err(LakeError::file("read", &path))?;
            if data.is_dir() && path.file_name().is_some_and(|name| name != "_delta_log") {
                folders.insert(path);
            } else if data.is_file() && path.extension().is_some_and(|extension| extension == "parquet") {
                use std::os::unix::fs::MetadataExt;
                let relative = path.strip_prefix(dir).unwrap_or(&path).to_owned();
                found.push((relative, data.mtime()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_named_by_its_url_and_holds_no_key() {
        let open = |url: &str| Bucket::open(&BucketOptions { url: url.into(), ..BucketOptions::default() });
        for good in ["s3://events", "s3://events/", "s3://events/sakimori/lake"] {
            assert!(open(good).is_ok(), "{good}");
        }
        for bad in ["", "events", "s3://", "gs://events", "s3://key:secret@events/x", "s3://events?region=x"] {
            let error = open(bad).err().unwrap().to_string();
            assert!(error.starts_with("lake") && !error.contains("secret"), "{error}");
        }
    }
}
