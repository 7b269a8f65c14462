import './base.css';
import './panel.css';
import './forms.css';
