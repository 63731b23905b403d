//! The words of `docker ps`: `Up 3 seconds (healthy)`. Pure.

use std::time::{Duration, SystemTime};

use crate::container::{HealthStatus, Snapshot, Status};

/// The column STATUS.
pub fn text(container: &Snapshot, now: SystemTime) -> String {
    let since =
        |time: Option<SystemTime>| rough(time.and_then(|time| now.duration_since(time).ok()).unwrap_or_default());
    let code = container.exit.code;
    match container.status {
        Status::Created => "Created".to_owned(),
        Status::Paused => format!("Up {} (Paused)", since(container.started)),
        Status::Running => {
            let up = since(container.started);
            match container.health.as_ref().map(|health| health.status) {
                Some(HealthStatus::Starting) => format!("Up {up} (health: starting)"),
                Some(status) => format!("Up {up} ({})", health_word(status)),
                None => format!("Up {up}"),
            }
        }
        Status::Restarting => format!("Restarting ({code}) {} ago", since(container.finished)),
        // What never started has nothing to have ended.
        Status::Exited if container.started.is_none() && container.finished.is_none() => "Created".to_owned(),
        Status::Exited => format!("Exited ({code}) {} ago", since(container.finished)),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
    }
}

/// As `inspect` and the filter `health` have it.
pub fn health_word(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Starting => "starting",
        HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy => "unhealthy",
    }
}

/// Docker's rough durations.
fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Rounded half up, and only from here on.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., ..48) => format!("{hours} hours"),
        (.., ..336) => format!("{} days", hours / 24),
        (.., ..1440) => format!("{} weeks", hours / 24 / 7),
        (.., ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (2, "2 seconds"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (HOUR - 1, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (2 * DAY - 1801, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(rough(Duration::from_secs(seconds)), text, "{seconds} s");
        }
    }
}
