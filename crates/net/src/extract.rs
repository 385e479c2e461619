//! Parts of a URL, read so that what does not read is refused in the same shape as everything else.
//! axum's own extractors answer in plain text.

use crate::openai::ApiError;
use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;

/// The variable parts of the path.
#[derive(Clone, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(value)| Self(value)).map_err(|rejection| {
            ApiError::invalid("path", format!("The path does not read: {}.", rejection.body_text()))
        })
    }
}

/// The query.
#[derive(Clone, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(value)| Self(value)).map_err(|rejection| {
            ApiError::invalid("query", format!("The query does not read: {}.", rejection.body_text()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[derive(Debug, serde::Deserialize)]
    struct Page {
        #[allow(dead_code, reason = "only read")]
        limit: u32,
    }

    #[tokio::test]
    async fn a_query_that_does_not_read_is_refused_in_the_usual_shape() {
        for (query, fits) in [("limit=3", true), ("limit=-1", false), ("limit=%FF", false), ("", false)] {
            let request = Request::get(format!("/x?{query}")).body(()).unwrap();
            let (mut parts, ()) = request.into_parts();
            match Query::<Page>::from_request_parts(&mut parts, &()).await {
                Ok(_) => assert!(fits, "{query}"),
                Err(error) => {
                    assert!(!fits, "{query}");
                    assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some("query")));
                }
            }
        }
    }

    #[tokio::test]
    async fn a_path_that_does_not_read_is_refused_in_the_usual_shape() {
        use axum::{Router, routing::get};
        let app: Router = Router::new().route("/{id}", get(|Path(id): Path<String>| async move { id }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        for (path, status) in [("a%2Fb", 200), ("%FF", 400)] {
            let client = crate::http::client().unwrap();
            let answer = client.get(format!("http://{address}/{path}")).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{path}");
            let body = answer.bytes().await.unwrap();
            assert_eq!(status == 400, ApiError::from_answer(http::StatusCode::OK, &body).kind != "unknown");
        }
    }
}
