// @grafana/ui imports this CommonJS package as if it were none, and gets its exports in place of its component.
import { Scrollbars } from 'original-scrollbars';

export default Scrollbars;
