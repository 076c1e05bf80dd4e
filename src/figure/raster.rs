//! The PNG: plotters' bitmap backend with accurate text and lines, drawn larger and averaged down.

use super::font::Fonts;
use super::text::{self, Turn};
use super::theme::{PNG_SCALE, UNITS};
use crate::{Error, Result};
use ab_glyph::{Font, PxScale, point};
use plotters::prelude::BitMapBackend;
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind};

/// Samples in each direction that are averaged to a pixel of the PNG.
const SAMPLES: usize = UNITS as usize / PNG_SCALE as usize;

/// Bytes of the pixel buffer of a figure of `size` pixels.
pub fn buffer_len((width, height): (u32, u32)) -> usize {
    let units = UNITS as usize;
    width as usize * units * height as usize * units * 3
}

/// A bitmap backend. plotters' own text has its glyphs at whole pixels without their side bearings, and its thick lines have spikes
/// at sharp corners; these two are drawn here.
pub struct Raster<'a> {
    bitmap: BitMapBackend<'a>,
    fonts: &'static Fonts,
}

type Fault<'a> = <BitMapBackend<'a> as DrawingBackend>::ErrorType;
type Drawn<'a> = std::result::Result<(), DrawingErrorKind<Fault<'a>>>;

impl<'a> Raster<'a> {
    /// A backend over `buffer`, which must hold [`buffer_len`] bytes.
    ///
    /// # Errors
    /// [`Error::Figure`] if the buffer is too small.
    pub fn new(buffer: &'a mut [u8], size: (u32, u32), fonts: &'static Fonts) -> Result<Self> {
        let units = UNITS as u32;
        let bitmap = BitMapBackend::with_buffer_and_format(buffer, (size.0 * units, size.1 * units))
            .map_err(|e| Error::Figure(format!("no bitmap of {} × {} pixels: {e}", size.0, size.1)))?;
        Ok(Self { bitmap, fonts })
    }

    /// Fills the inside (even-odd) of a polygon, sampled at the centres of pixels.
    fn scan(&mut self, points: &[(f64, f64)], color: BackendColor) -> Drawn<'a> {
        let height = f64::from(self.get_size().1);
        let top = points.iter().fold(height, |m, p| m.min(p.1)).max(0.0) as i32;
        let bottom = points.iter().fold(0.0, |m: f64, p| m.max(p.1)).min(height).ceil() as i32;
        let mut crossings = Vec::new();
        for row in top..bottom {
            let y = f64::from(row) + 0.5;
            crossings.clear();
            for (a, b) in points.iter().zip(points.iter().cycle().skip(1)) {
                if (a.1 <= y) != (b.1 <= y) {
                    crossings.push(a.0 + (b.0 - a.0) * (y - a.1) / (b.1 - a.1));
                }
            }
            crossings.sort_by(f64::total_cmp);
            for span in crossings.chunks_exact(2) {
                let (from, to) = ((span[0] - 0.5).ceil() as i32, (span[1] - 0.5).ceil() as i32);
                if from < to {
                    self.bitmap.draw_rect((from, row), (to, row + 1), &color, true)?;
                }
            }
        }
        Ok(())
    }

    fn disc(&mut self, (x, y): BackendCoord, radius: f64, color: BackendColor) -> Drawn<'a> {
        let sides = (radius * 3.0).clamp(12.0, 64.0) as usize;
        let points: Vec<_> = (0..sides)
            .map(|i| {
                let (sin, cos) = (std::f64::consts::TAU * i as f64 / sides as f64).sin_cos();
                (f64::from(x) + radius * cos, f64::from(y) + radius * sin)
            })
            .collect();
        self.scan(&points, color)
    }
}

impl<'a> DrawingBackend for Raster<'a> {
    type ErrorType = Fault<'a>;

    fn get_size(&self) -> (u32, u32) {
        self.bitmap.get_size()
    }

    fn ensure_prepared(&mut self) -> Drawn<'a> {
        self.bitmap.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<'a> {
        self.bitmap.present()
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Drawn<'a> {
        self.bitmap.draw_pixel(at, color)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn<'a> {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, fill: bool) -> Drawn<'a> {
        if fill {
            return self.bitmap.draw_rect(from, to, style, true);
        }
        self.draw_path([from, (to.0, from.1), to, (from.0, to.1), from], style)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn<'a> {
        let points: Vec<_> = path.into_iter().collect();
        let (color, half) = (style.color(), f64::from(style.stroke_width()) / 2.0);
        for pair in points.windows(2) {
            let [(ax, ay), (bx, by)] = [pair[0], pair[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
            let length = (bx - ax).hypot(by - ay);
            if length > 0.0 {
                let (nx, ny) = ((ay - by) / length * half, (bx - ax) / length * half);
                self.scan(&[(ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny)], color)?;
            }
        }
        // Round joins and ends, as in the SVG.
        for &point in &points {
            self.disc(point, half, color)?;
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, at: BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn<'a> {
        if fill { self.disc(at, f64::from(radius), style.color()) } else { self.bitmap.draw_circle(at, radius, style, false) }
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, vertices: I, style: &S) -> Drawn<'a> {
        let points: Vec<_> = vertices.into_iter().map(|(x, y)| (f64::from(x), f64::from(y))).collect();
        self.scan(&points, style.color())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn<'a> {
        let line = text::lay_out(self.fonts, text, style);
        let face = self.fonts.face(line.weight);
        // ab_glyph measures a scale from ascent to descent, not in ems.
        let scale = PxScale::from((line.size * f64::from(face.font.height_unscaled()) / face.units) as f32);
        let color = style.color();
        let turned = line.turn != Turn::None;
        for (glyph, pen) in face.glyphs(text) {
            let start = point((line.offset.0 + pen * line.size / face.units) as f32, line.offset.1 as f32);
            let Some(outlined) = face.font.outline_glyph(glyph.with_scale_and_position(scale, start)) else { continue };
            let corner = outlined.px_bounds().min;
            let mut covered = Vec::new();
            outlined.draw(|column, row, coverage| {
                if coverage > 0.0 {
                    covered.push((column as i32 + corner.x as i32, row as i32 + corner.y as i32, coverage.min(1.0)));
                }
            });
            for (column, row, coverage) in covered {
                // A pixel is a square: turning its corner would move it by one.
                let (dx, dy) = if turned {
                    let (cx, cy) = line.turn.apply((2 * column + 1, 2 * row + 1));
                    ((cx - 1).div_euclid(2), (cy - 1).div_euclid(2))
                } else {
                    (column, row)
                };
                let color = BackendColor { alpha: color.alpha * f64::from(coverage), rgb: color.rgb };
                self.bitmap.draw_pixel((x + dx, y + dy), color)?;
            }
        }
        Ok(())
    }
}

/// The PNG file of a buffer that a [`Raster`] of `size` drew to.
///
/// # Errors
/// [`Error::Figure`] if the encoder fails.
pub fn encode(buffer: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>> {
    let (columns, rows) = (width as usize * PNG_SCALE as usize, height as usize * PNG_SCALE as usize);
    let stride = columns * SAMPLES * 3;
    let mut pixels = Vec::with_capacity(columns * rows * 3);
    for row in 0..rows {
        for column in 0..columns {
            for channel in 0..3 {
                let sum: u32 = (0..SAMPLES * SAMPLES)
                    .map(|s| (row * SAMPLES + s / SAMPLES) * stride + (column * SAMPLES + s % SAMPLES) * 3 + channel)
                    .map(|at| u32::from(buffer[at]))
                    .sum();
                let count = (SAMPLES * SAMPLES) as u32;
                pixels.push(((sum + count / 2) / count) as u8);
            }
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, columns as u32, rows as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let failed = |e: png::EncodingError| Error::Figure(format!("cannot encode the PNG: {e}"));
    encoder.write_header().and_then(|mut w| w.write_image_data(&pixels)).map_err(failed)?;
    Ok(file)
}
