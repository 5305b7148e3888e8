// One filter's points, colored by cluster, its outliers ringed.

// Okabe and Ito's colors, which color-blind eyes tell apart, without the one that marks outliers.
const CLUSTER_COLORS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#9b8b00'];
const CLUSTER_SYMBOLS = ['circle', 'square', 'diamond', 'triangle-up', 'cross'];

// Draws into `plot`; onHover(sample or null, event) follows the pointer.
function drawScatter(plot, run, filter, limit, onHover) {
  const sizes = sizesOf(run, filter);
  const members = Array.from(sizes, () => []);
  labelsOf(run, filter).forEach((cluster, sample) => members[cluster].push(sample));
  const ring = cssColor('--anomaly');
  const traces = members.map((samples, cluster) => {
    const outlying = sizes[cluster] <= limit;
    const points = samples.map((sample) => pointOf(run, filter, sample));
    return {
      type: 'scatter',
      mode: 'markers',
      x: points.map(([x]) => x),
      y: points.map(([, y]) => y),
      customdata: samples,
      hoverinfo: 'none',
      marker: {
        color: CLUSTER_COLORS[cluster % CLUSTER_COLORS.length],
        symbol: CLUSTER_SYMBOLS[Math.floor(cluster / CLUSTER_COLORS.length) % CLUSTER_SYMBOLS.length],
        size: outlying ? 11 : 6,
        opacity: outlying ? 1 : 0.85,
        line: outlying ? { color: ring, width: 2.5 } : { color: cssColor('--card'), width: 0.5 },
      },
    };
  });
  const line = cssColor('--line');
  const axis = (text) => ({ title: { text, standoff: 6 }, gridcolor: line, zerolinecolor: line, automargin: true });
  const layout = {
    paper_bgcolor: 'rgba(0,0,0,0)',
    plot_bgcolor: 'rgba(0,0,0,0)',
    font: { color: cssColor('--text'), family: 'system-ui, sans-serif', size: 12 },
    margin: { l: 48, r: 8, t: 8, b: 40 },
    xaxis: axis('1st principal component'),
    yaxis: axis('2nd principal component'),
    hovermode: 'closest',
    dragmode: 'pan',
    showlegend: false, // up to max_clusters entries would leave no room for the points
    modebar: { bgcolor: 'rgba(0,0,0,0)', color: cssColor('--quiet'), activecolor: cssColor('--accent') },
  };
  // Named one by one: the default bar has buttons that lead to a service on the network.
  const buttons = [['toImage', 'zoom2d', 'pan2d', 'zoomIn2d', 'zoomOut2d', 'resetScale2d']];
  const config = { displaylogo: false, responsive: true, scrollZoom: true, modeBarButtons: buttons };
  Plotly.newPlot(plot, traces, layout, config);
  plot.on('plotly_hover', ({ points, event }) => onHover(points[0].customdata, event));
  plot.on('plotly_unhover', () => onHover(null));
}

// Rings a sample, or none where it is null, from outside the plot.
function ringSample(plot, run, filter, sample) {
  const line = { color: cssColor('--text'), width: 2.5 };
  const shapes = (sample === null ? [] : [pointOf(run, filter, sample)]).map(([xanchor, yanchor]) => (
    { type: 'circle', xsizemode: 'pixel', ysizemode: 'pixel', xanchor, yanchor, x0: -11, x1: 11, y0: -11, y1: 11, line }));
  Plotly.relayout(plot, { shapes });
}
