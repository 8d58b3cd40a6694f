//! The values that a run has measured.

use std::collections::{BTreeMap, VecDeque};

use mlua::Lua;
use serde_json::{Map, Value as Json, json};
use sloth_core::Millis;

use crate::{Sample, SampleKind, TaskName};

/// Most bytes of a name.
pub(super) const NAME_BYTES_MAX: usize = 256;
/// Most measurements of a run, each set of tags counted.
const SERIES_MAX: usize = 10_000;
/// How many of the last observations of a histogram are kept.
const OBSERVATIONS_KEPT: usize = 100;

type Tags = BTreeMap<String, String>;

/// It lives in the machine, and so as long as the run.
#[derive(Default)]
pub(super) struct Registry {
    series: BTreeMap<(String, Tags), Series>,
    alerts: BTreeMap<String, Json>,
    /// The tags that each name was measured with last.
    last: BTreeMap<String, Tags>,
}

struct Series {
    kind: SampleKind,
    value: f64,
    observations: VecDeque<f64>,
    at: Millis,
}

impl Registry {
    pub(super) fn with<T>(lua: &Lua, f: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(mut known) = lua.app_data_mut::<Self>() {
            return f(&mut known);
        }
        let mut known = Self::default();
        let result = f(&mut known);
        lua.set_app_data(known);
        result
    }

    /// Notes a value made from the one before.
    pub(super) fn record(
        &mut self,
        kind: SampleKind,
        name: String,
        tags: Tags,
        value: impl FnOnce(Option<f64>) -> f64,
        at: Millis,
        task: Option<TaskName>,
    ) -> Result<Sample, String> {
        let key = (name, tags);
        if SERIES_MAX <= self.series.len() && !self.series.contains_key(&key) {
            return Err(format!("a run measures {SERIES_MAX} things at most, each set of tags counted"));
        }
        let fresh = || Series { kind, value: 0.0, observations: VecDeque::new(), at };
        let before = self.series.get(&key).map(|series| (series.kind, series.value));
        if let Some((other, _)) = before.filter(|(other, _)| *other != kind) {
            return Err(format!("`{}` is a {} already, not a {}", key.0, other.as_str(), kind.as_str()));
        }
        let value = value(before.map(|(_, value)| value));
        let (name, tags) = key.clone();
        let series = self.series.entry(key).or_insert_with(fresh);
        (series.value, series.at) = (value, at);
        if kind == SampleKind::Histogram {
            series.observations.push_back(value);
            if OBSERVATIONS_KEPT < series.observations.len() {
                series.observations.pop_front();
            }
        }
        self.last.insert(name.clone(), tags.clone());
        Ok(Sample { name, kind, value, tags, at, task })
    }

    pub(super) fn alert(&mut self, name: &str, mut fields: Map<String, Json>, at: Millis) -> Result<(), String> {
        let name = format!("alert_{name}");
        if SERIES_MAX <= self.alerts.len() && !self.alerts.contains_key(&name) {
            return Err(format!("a run has {SERIES_MAX} alerts at most"));
        }
        fields.insert("type".to_owned(), "alert".into());
        fields.insert("timestamp".to_owned(), rfc3339(at).into());
        self.alerts.insert(name, Json::Object(fields));
        Ok(())
    }

    /// What is known of a name with these tags, or with those of its last measurement.
    pub(super) fn get(&self, name: &str, tags: Option<&Tags>) -> Option<Json> {
        let Some(tags) = tags.or_else(|| self.last.get(name)) else { return self.alerts.get(name).cloned() };
        let series = self.series.get(&(name.to_owned(), tags.clone()))?;
        Some(series.told(tags))
    }

    /// In their order.
    pub(super) fn names(&self) -> Vec<String> {
        self.last.keys().chain(self.alerts.keys()).cloned().collect()
    }
}

impl Series {
    fn told(&self, tags: &Tags) -> Json {
        let mut told = json!({ "type": self.kind.as_str(), "tags": tags, "timestamp": rfc3339(self.at) });
        match self.kind {
            SampleKind::Gauge | SampleKind::Counter => told["value"] = json!(self.value),
            SampleKind::Timer => told["duration_ms"] = json!(self.value),
            SampleKind::Histogram => {
                let (count, sum) = (self.observations.len(), self.observations.iter().sum::<f64>());
                told["samples"] = json!(self.observations);
                told["count"] = json!(count);
                told["sum"] = json!(sum);
                told["min"] = json!(self.observations.iter().copied().fold(f64::INFINITY, f64::min));
                told["max"] = json!(self.observations.iter().copied().fold(f64::NEG_INFINITY, f64::max));
                #[expect(clippy::cast_precision_loss, reason = "a hundred at most")]
                let avg = sum / count.max(1) as f64;
                told["avg"] = json!(avg);
            }
        }
        told
    }
}

/// An instant in UTC; empty past the year 9999.
pub(super) fn rfc3339(at: Millis) -> String {
    let at = i64::try_from(at.as_u64()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}
