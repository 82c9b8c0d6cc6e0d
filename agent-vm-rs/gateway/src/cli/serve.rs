//! Starts the servers, listens, and reports to systemd.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::log_level::log_level;
use super::mcp_proxy;
use super::options::ServeOptions;
use crate::config::{self, Launch};
use crate::http::{Gateway, Origins, serve as serve_http};
use crate::pool::Pool;
use crate::report::{Priority, States, log, notify, set_debug, watchdog};
use crate::session::Table;
use crate::supervise::{Server, Settings};

/// Time for the servers to end when the service stops, so that a power-off never waits.
const STOP_GRACE: Duration = Duration::from_millis(1500);
/// Time between notifications of the watchdog, if systemd has none.
const WATCHDOG: Duration = Duration::from_secs(60);
/// Time between probes of mcp-proxy before its first answer.
const STARTING: Duration = Duration::from_millis(100);

/// Serves until a signal.
pub async fn serve(options: ServeOptions) -> ExitCode {
    let began = Instant::now();
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return failed("cannot wait for signals");
    };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let level = log_level(credentials.as_deref(), &options.log_level_credential);
    set_debug(level == "debug");
    if let Err(error) = std::env::set_current_dir(&options.workspace) {
        return failed(&format!("cannot enter {}: {error}", options.workspace.display()));
    }
    let gateway = gateway(&options);
    let front = match start(&gateway, &options, &level).await {
        Ok(front) => front,
        Err(text) => return failed(&text),
    };
    for server in &gateway.servers {
        server.start();
    }
    let sweeping = Rc::clone(&gateway);
    for pool in &gateway.pools {
        spawn_local(Rc::clone(pool).sweep());
    }
    let often = options.times.applied_to(Settings::new(PathBuf::new())).sweep;
    spawn_local(async move { sweeping.table.sweep(often).await });
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let code = match front {
        Front::Own => {
            tokio::select! {
                () = stopped => {}
                () = report_own(&gateway, began) => {}
            }
            ExitCode::SUCCESS
        }
        Front::McpProxy(mut child) => {
            let code = tokio::select! {
                () = stopped => ExitCode::SUCCESS,
                status = child.wait() => failed(&format!("mcp-proxy ended: {status:?}")),
                () = report_mcp_proxy(&options, &gateway, began) => ExitCode::FAILURE,
            };
            let _ = timeout(STOP_GRACE, mcp_proxy::stop(&mut child)).await;
            code
        }
    };
    notify("STOPPING=1");
    let _ = timeout(STOP_GRACE, stop(&gateway)).await;
    code
}

/// What serves HTTP.
enum Front {
    Own,
    McpProxy(Box<tokio::process::Child>),
}

async fn start(gateway: &Rc<Gateway>, options: &ServeOptions, level: &str) -> Result<Front, String> {
    if let Some(program) = &options.mcp_proxy {
        return mcp_proxy::start(gateway, options, program, level).map(|child| Front::McpProxy(Box::new(child)));
    }
    let listener = TcpListener::bind((options.host, options.port))
        .await
        .map_err(|error| format!("cannot listen on {} port {}: {error}", options.host, options.port))?;
    if options.port == 0
        && let Ok(address) = listener.local_addr()
    {
        announce(address.port());
    }
    spawn_local(serve_http(Rc::clone(gateway), listener));
    Ok(Front::Own)
}

/// Notifies systemd for ever. In the loop that serves: if that hangs, systemd restarts the service.
async fn report_own(gateway: &Gateway, began: Instant) {
    tell_ready(gateway, began);
    let mut watchdog = interval(watchdog_time());
    watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        watchdog.tick().await;
        notify("WATCHDOG=1");
    }
}

/// Notifies systemd for ever whether mcp-proxy answers.
async fn report_mcp_proxy(options: &ServeOptions, gateway: &Gateway, began: Instant) {
    while !mcp_proxy::answers(options).await {
        sleep(STARTING).await;
    }
    tell_ready(gateway, began);
    loop {
        sleep(watchdog_time()).await;
        if mcp_proxy::answers(options).await {
            notify("WATCHDOG=1");
        } else {
            log(Priority::Warning, &format!("mcp-proxy does not answer at {}", options.health_path));
        }
    }
}

fn tell_ready(gateway: &Gateway, began: Instant) {
    notify("READY=1");
    log(Priority::Info, &format!("serving {} after {:.1} s", gateway.states.summary(), began.elapsed().as_secs_f64()));
}

fn watchdog_time() -> Duration {
    watchdog().map_or(WATCHDOG, |time| time / 4)
}

async fn stop(gateway: &Gateway) {
    let stopping: Vec<_> = gateway
        .servers
        .iter()
        .map(|server| {
            let server = Rc::clone(server);
            spawn_local(async move { server.stop().await })
        })
        .collect();
    for stopping in stopping {
        let _ = stopping.await;
    }
}

fn gateway(options: &ServeOptions) -> Rc<Gateway> {
    let files: Vec<PathBuf> = options.servers_file.iter().map(|file| options.workspace.join(file)).collect();
    let (named, problems) = config::read_all(files.iter().map(PathBuf::as_path));
    for problem in &problems {
        log(Priority::Warning, problem);
    }
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").map(|runtime| Path::new(&runtime).join("servers.json"));
    let states = Rc::new(States::new(runtime, &problems));
    let settings = Rc::new(options.times.applied_to(Settings::new(options.workspace.clone())));
    let (name, program) = options.default_server.clone();
    let default = config::Server { name, launch: Launch::Program { argv: vec![program], env: Vec::new() } };
    let mut servers = vec![Server::new(default, true, &settings, &states)];
    servers.extend(named.into_iter().map(|server| Server::new(server, false, &settings, &states)));
    for server in servers.iter().filter(|server| options.sessions_only.contains(&server.name)) {
        server.has_only_sessions();
    }
    let gateway = Rc::new(Gateway {
        pools: servers.iter().map(Pool::new).collect(),
        servers,
        table: Table::default(),
        origins: Origins::new(options.allow_origin.clone(), options.host.is_loopback()),
        health_path: options.health_path.clone(),
        states,
    });
    for pool in &gateway.pools {
        let (sessions, pool) = (Rc::downgrade(&gateway), Rc::downgrade(pool));
        let Some(server) = pool.upgrade().map(|pool| Rc::clone(&pool.server)) else { continue };
        let own = Rc::downgrade(&server);
        server.when_full(move || {
            let (Some(gateway), Some(pool), Some(server)) = (sessions.upgrade(), pool.upgrade(), own.upgrade()) else {
                return false;
            };
            pool.end_unused() || gateway.table.end_oldest(&server)
        });
    }
    gateway
}

/// Names the port on standard output.
fn announce(port: u16) {
    use std::io::Write;
    // The reader may be gone.
    let _ = writeln!(std::io::stdout(), "{port}");
}

fn failed(text: &str) -> ExitCode {
    log(Priority::Warning, text);
    ExitCode::FAILURE
}
