//! The loop of every server of ours: connections are counted, and none of them is waited for without end.

use axum::{
    Extension, Router,
    body::{Body, HttpBody as _},
    extract::{ConnectInfo, Request},
    middleware::{Next, from_fn},
    response::Response,
};
use futures::{StreamExt as _, stream};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_io_timeout::TimeoutStream;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// A request's head, from the end of the request before it. Clients of ours keep idle connections for
    /// 90 s, and must not find them closed.
    head: Duration,
    /// A request's body.
    body: Duration,
    /// A write to a client that reads nothing.
    write: Duration,
    /// What is under way when the server stops.
    end: Duration,
}

const PATIENCE: Patience = Patience {
    head: Duration::from_secs(120),
    body: Duration::from_secs(60),
    write: Duration::from_secs(60),
    end: Duration::from_secs(5),
};
/// Connections at a time; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 4_096;
/// Before a connection is accepted again where the system has no means for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until `stop` resolves: then nothing more is accepted, and what is under way has five seconds to
/// end. Handlers find the client's address as `ConnectInfo<SocketAddr>`.
pub async fn serve(listener: TcpListener, app: Router, stop: impl Future<Output = ()>) {
    serve_within(PATIENCE, MAX_CONNECTIONS, listener, app, stop).await;
}

async fn serve_within(
    patience: Patience,
    most: usize,
    listener: TcpListener,
    app: Router,
    stop: impl Future<Output = ()>,
) {
    let app = app.layer(from_fn(move |request, next| in_time(patience.body, request, next)));
    let places = Arc::new(Semaphore::new(most));
    let (tell, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let accept = async {
        // Never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, from)) => {
                    let connection = connection(patience, stream, from, app.clone(), stopping.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
    drop(listener);
    tell.send_replace(true);
    // What is left then is cut off when the set is dropped.
    let _ended = timeout(patience.end, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(
    patience: Patience,
    stream: TcpStream,
    from: SocketAddr,
    app: Router,
    mut stopping: watch::Receiver<bool>,
) {
    // Small events are sent at once. Otherwise each waits for the reader's acknowledgement of the one
    // before, up to 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection sends with delays");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience.write));
    let service = TowerToHyperService::new(app.layer(Extension(ConnectInfo(from))));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience.head)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stopping.wait_for(|stop| *stop).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, %from, "a connection ended early");
    }
}

/// A request whose body has to arrive in time.
async fn in_time(patience: Duration, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let deadline = Instant::now() + patience;
    let late = move || axum::Error::new(format!("it did not arrive within {} s", patience.as_secs_f64()));
    let request = request.map(|body| {
        Body::from_stream(stream::try_unfold(body.into_data_stream(), move |mut parts| async move {
            match timeout_at(deadline, parts.next()).await {
                Ok(part) => Ok(part.transpose()?.map(|part| (part, parts))),
                Err(_) => Err(late()),
            }
        }))
    });
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::client;
    use axum::routing::{get, post};
    use std::convert::Infallible;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::oneshot,
    };

    const SHORT: Patience = Patience {
        head: Duration::from_millis(300),
        body: Duration::from_millis(300),
        write: Duration::from_millis(300),
        end: Duration::from_millis(300),
    };

    /// A server that is told to stop by dropping the sender, and its end.
    async fn server(most: usize) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let endless = || async {
            let parts = stream::repeat_with(|| Ok::<_, Infallible>(vec![b'a'; 1 << 16]));
            Body::from_stream(parts)
        };
        let app = Router::new()
            .route("/", get(|ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.to_string() }))
            .route("/length", post(|body: String| async move { body.len().to_string() }))
            .route("/slow", get(|| async { sleep(Duration::from_millis(100)).await }))
            .route("/never", get(|| async { std::future::pending::<()>().await }))
            .route("/endless", get(endless));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        (address, stop, tokio::spawn(serve_within(SHORT, most, listener, app, stopped)))
    }

    /// Says it on a connection, and reads what comes until the other side closes.
    async fn say(address: SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        drop(read.expect("the server closes"));
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn requests_are_answered_and_slow_ones_end() {
        let (address, _stop, _) = server(8).await;
        let url = format!("http://{address}");
        let http = client().unwrap();
        for _ in 0..3 {
            let from = http.get(&url).send().await.unwrap().text().await.unwrap();
            assert!(from.starts_with("127.0.0.1:"), "{from}");
        }
        let length = http.post(format!("{url}/length")).body("seven!!").send().await.unwrap();
        assert_eq!(length.text().await.unwrap(), "7");
        assert_eq!(say(address, "GET / HTTP/1.1\r\nhost: ").await, "");
        let half = "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc";
        let answer = say(address, half).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }

    #[tokio::test]
    async fn one_more_waits_for_a_place() {
        let (address, _stop, _) = server(1).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let second = say(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let (mut second, closes) = (Box::pin(second), Duration::from_millis(50));
        assert!(timeout(closes, second.as_mut()).await.is_err(), "the only place is taken");
        drop(first);
        assert!(second.await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn who_reads_nothing_is_let_go() {
        let (address, _stop, _) = server(1).await;
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        // Its place is free again though it holds its end open.
        let next = say(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(next.starts_with("HTTP/1.1 200"), "{next}");
        drop(deaf);
    }

    #[tokio::test]
    async fn a_stop_waits_for_what_ends_and_no_longer() {
        for (request, answered) in [
            ("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n", true),
            ("GET /never HTTP/1.1\r\nhost: a\r\n\r\n", false),
            ("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n", false),
            ("", false),
        ] {
            let (address, stop, served) = server(8).await;
            let asking = tokio::spawn(async move { say(address, request).await });
            tokio::time::sleep(Duration::from_millis(30)).await;
            drop(stop);
            timeout(Duration::from_secs(5), served).await.expect("it ends").unwrap();
            let answer = asking.await.unwrap();
            assert_eq!(answer.starts_with("HTTP/1.1 200"), answered, "{request:?}: {answer}");
            assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
        }
    }
}
