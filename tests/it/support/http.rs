//! Plain HTTP requests.

use std::time::Duration;

/// Returns a client that never uses a proxy of the environment.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(300)).build().unwrap()
}

/// Returns the body of a successful GET.
pub(crate) async fn get_text(url: &str) -> String {
    let answer = client().get(url).send().await.unwrap_or_else(|e| panic!("GET {url}: {e:?}"));
    let status = answer.status();
    let body = answer.text().await.unwrap();
    assert!(status.is_success(), "GET {url}: {status} {body}");
    body
}

/// Returns the JSON of a successful GET with query parameters.
pub(crate) async fn get_json(url: &str, query: &[(&str, &str)]) -> serde_json::Value {
    let answer =
        client().get(url).query(query).send().await.unwrap_or_else(|e| panic!("GET {url} {query:?}: {e:?}"));
    let status = answer.status();
    let body = answer.text().await.unwrap();
    assert!(status.is_success(), "GET {url} {query:?}: {status} {body}");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("GET {url}: {e}: {body}"))
}

/// Returns whether a GET succeeds.
pub(super) async fn answers(url: &str) -> bool {
    client().get(url).send().await.is_ok_and(|a| a.status().is_success())
}
