// aiplat's icon: a model (three nodes) that has passed a gate (the tick). `jp-icon3` takes the colour of the theme.
import { LabIcon } from '@jupyterlab/ui-components';

export const aiplatIcon = new LabIcon({
  name: 'aiplat:icon',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M12 1.9 2.9 6.6v6.1c0 4.6 3.7 7.9 9.1 9.4 5.4-1.5 9.1-4.8 9.1-9.4V6.6zm0 2.15 7.2 3.7v4.95c0 3.5-2.7 6-7.2 7.4-4.5-1.4-7.2-3.9-7.2-7.4V7.75z"/>
    <path d="m10.9 16.3-3.9-3.9 1.35-1.35 2.55 2.55 5-5.05 1.35 1.35z"/>
  </g>
</svg>`
});
