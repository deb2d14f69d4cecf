//! Pictures of a sweep: added delay over calls, CPU per packet over load; ours and the peer in one frame.
//!
//! Drawn twice by the same code, as SVG for pages and as PNG for whatever shows no SVG. The font comes with the
//! program, so no system library or font is needed.

use std::path::{Path, PathBuf};

use anyhow::Context;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::report::{SweepPoint, number};

const SIZE: (u32, u32) = (1_000, 600);
const FONT: &str = "sans-serif";
const OURS: RGBColor = RGBColor(0, 98, 190);
const PEER: RGBColor = RGBColor(205, 82, 20);
const MACHINE: RGBColor = RGBColor(120, 120, 120);

/// Draws `<stem>-delay` and `<stem>-cpu` into `dir`, each as `.svg` and `.png`; returns the files.
///
/// # Errors
/// Nothing to draw, or the directory cannot be written.
pub fn draw(points: &[SweepPoint], dir: &Path, stem: &str) -> anyhow::Result<Vec<PathBuf>> {
    anyhow::ensure!(!points.is_empty(), "no sweep to draw");
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::HACK_REGULAR)
        .map_err(|_| anyhow::anyhow!("the built-in font is unreadable"))?;
    let delay = delay_chart(points);
    let cpu = cpu_chart(points);
    let mut files = Vec::new();
    for (name, chart) in [("delay", &delay), ("cpu", &cpu)] {
        let svg = dir.join(format!("{stem}-{name}.svg"));
        chart
            .draw(&SVGBackend::new(&svg, SIZE).into_drawing_area())
            .context("SVG")?;
        let png = dir.join(format!("{stem}-{name}.png"));
        chart
            .draw(&BitMapBackend::new(&png, SIZE).into_drawing_area())
            .context("PNG")?;
        files.extend([svg, png]);
    }
    Ok(files)
}

/// A line of a chart.
struct Series {
    label: String,
    colour: RGBColor,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// A chart with a logarithmic y axis.
struct Chart {
    caption: &'static str,
    x_label: &'static str,
    y_label: &'static str,
    series: Vec<Series>,
}

fn delay_chart(points: &[SweepPoint]) -> Chart {
    let mut series = Vec::new();
    for (server, colour) in servers(points) {
        for (quantile, dashed, of) in [
            ("p50", false, (|p| p.added_p50_ms) as fn(&SweepPoint) -> f64),
            ("p99", true, |p| p.added_p99_ms),
        ] {
            series.push(Series {
                label: format!(
                    "{} {quantile}",
                    if server == "direct" { "no server" } else { server }
                ),
                colour,
                dashed,
                points: line(points, server, |point| (f64::from(point.calls), of(point))),
            });
        }
    }
    Chart {
        caption: "Delay added by one core, plain relay of G.711 calls",
        x_label: "calls (100 packets/s each)",
        y_label: "added one-way delay, ms",
        series,
    }
}

fn cpu_chart(points: &[SweepPoint]) -> Chart {
    let series = servers(points)
        .into_iter()
        .filter(|(server, _)| *server != "direct")
        .map(|(server, colour)| Series {
            label: server.to_owned(),
            colour,
            dashed: false,
            points: line(points, server, |point| (point.pps / 1e3, point.cpu_us)),
        });
    Chart {
        caption: "CPU per relayed packet, one core",
        x_label: "load, 1000 packets/s delivered",
        y_label: "CPU per packet, us",
        series: series.collect(),
    }
}

/// Servers of the sweep, each with its colour.
fn servers(points: &[SweepPoint]) -> Vec<(&'static str, RGBColor)> {
    let all = [("mediad", OURS), ("rtpengine", PEER), ("direct", MACHINE)];
    all.into_iter()
        .filter(|(name, _)| points.iter().any(|point| point.server == *name))
        .collect()
}

fn line(points: &[SweepPoint], server: &str, xy: impl Fn(&SweepPoint) -> (f64, f64)) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = points
        .iter()
        .filter(|point| point.server == server)
        .map(xy)
        .collect();
    line.sort_by(|one, two| one.0.total_cmp(&two.0));
    // A logarithmic axis has no zero: what is below the clock's resolution is drawn at it.
    line.into_iter().map(|(x, y)| (x, y.max(0.001))).collect()
}

impl Chart {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> anyhow::Result<()>
    where
        B::ErrorType: 'static,
    {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let x_max = all().map(|point| point.0).fold(0.0, f64::max) * 1.03;
        let y_min = all().map(|point| point.1).fold(f64::INFINITY, f64::min) * 0.7;
        let y_max = all().map(|point| point.1).fold(0.0, f64::max) * 1.6;
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(self.caption, (FONT, 24))
            .margin(16)
            .margin_right(28)
            .x_label_area_size(52)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..x_max, (y_min..y_max).log_scale())?;
        chart
            .configure_mesh()
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .x_labels(12)
            .y_labels(12)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| tick(*y))
            .label_style((FONT, 16))
            .axis_desc_style((FONT, 18))
            .bold_line_style(BLACK.mix(0.18))
            .light_line_style(BLACK.mix(0.05))
            .draw()?;
        for series in &self.series {
            let style = series.colour.stroke_width(2);
            let points = || series.points.iter().copied();
            let drawn = if series.dashed {
                chart.draw_series(DashedLineSeries::new(points(), 7, 5, style))?
            } else {
                chart.draw_series(LineSeries::new(points(), style))?
            };
            let (colour, dashed) = (series.colour, series.dashed);
            drawn.label(series.label.clone()).legend(move |(x, y)| {
                let ends = if dashed {
                    vec![(x, y), (x + 9, y)]
                } else {
                    vec![(x, y), (x + 26, y)]
                };
                PathElement::new(ends, colour.stroke_width(3))
            });
            chart.draw_series(points().map(|point| {
                if series.dashed {
                    Circle::new(point, 4, series.colour.stroke_width(2))
                } else {
                    Circle::new(point, 4, series.colour.filled())
                }
            }))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .margin(14)
            .legend_area_size(36)
            .label_font((FONT, 17))
            .background_style(WHITE.mix(0.9))
            .border_style(BLACK.mix(0.4))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// A label of the logarithmic axis without needless zeros.
fn tick(value: f64) -> String {
    let text = number(value);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
