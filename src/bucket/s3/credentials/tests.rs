use std::fs;

use super::*;

const FILE: &str = "# ours\n[default]\naws_access_key_id = ID\naws_secret_access_key=se=cret \n\n[ other ]\n\
                    aws_access_key_id=ID2\naws_secret_access_key=two\naws_session_token = tok\n[role]\nrole_arn = x\n";

#[test]
fn profiles_are_read_as_amazons_tools_write_them() {
    let default = read_profile(FILE, "default").unwrap();
    assert_eq!(
        (default.key_id.as_str(), default.secret_key.as_str(), default.token),
        ("ID", "se=cret", None)
    );
    let other = read_profile(FILE, "other").unwrap();
    assert_eq!((other.key_id.as_str(), other.token.as_deref()), ("ID2", Some("tok")));
    assert!(read_profile(FILE, "role").is_none());
    assert!(read_profile("", "default").is_none());
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_rotated_are_found_and_kept_ones_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials");
    assert!(SharedFile::open(path.clone(), None).unwrap().is_none(), "no file, no credentials");
    assert!(SharedFile::open(path.clone(), Some("x".to_owned())).is_err());
    fs::write(&path, FILE).unwrap();
    let error = SharedFile::open(path.clone(), Some("role".to_owned())).unwrap_err().to_string();
    assert!(error.contains("\"role\"") && error.contains("aws_access_key_id"), "{error}");
    let file = SharedFile::open(path.clone(), Some("other".to_owned())).unwrap().unwrap();
    let first = file.get_credential().await.unwrap();
    tokio::time::advance(READ_EVERY).await;
    assert!(Arc::ptr_eq(&first, &file.get_credential().await.unwrap()));
    fs::write(&path, FILE.replace("ID2", "ID3")).unwrap();
    assert!(Arc::ptr_eq(&first, &file.get_credential().await.unwrap()), "read a moment ago");
    tokio::time::advance(READ_EVERY).await;
    assert_eq!(file.get_credential().await.unwrap().key_id, "ID3");
}
