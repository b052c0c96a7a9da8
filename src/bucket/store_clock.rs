//! The store's own clock.

use super::{Bucket, BucketError, ObjectKey};
use crate::runtime::Random;

impl Bucket {
    /// Returns the present by the clock that dates objects: that of an object made for this.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn store_now_ms(&self, random: &Random) -> Result<i64, BucketError> {
        let key = ObjectKey::Probe { id: random.ulid(0) };
        let content = format!("perennial clock {:016x}", random.next_u64());
        self.put(&key, content.into()).await?;
        let info = self.head(&key).await;
        if let Err(error) = self.delete(&key).await {
            tracing::warn!(%key, %error, "cannot delete the probe");
        }
        let info = info?.ok_or_else(|| BucketError::NotFound { key: key.to_string() })?;
        Ok(info.last_modified_ms)
    }
}
